// CoreDNS with the plugins that the cluster's DNS service needs, and no more: each is time to build.
// go.mod names the versions that ../kube/go.mod has, where both need a module: what they share is compiled once.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
)

func main() {
	// The order in which plugins see a query, whatever the order in the Corefile.
	dnsserver.Directives = []string{"bind", "errors", "kubernetes"}
	coremain.Run()
}
