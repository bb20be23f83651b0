/** What the dev cluster is made of. Each is a published Go module, built on the machine. */
export const versions = {
  /** k8s.io/kubernetes; kube/go.mod must name the same. */
  kubernetes: "1.37.2",
  /** Image volumes need 2.1 or newer. */
  containerd: "2.4.2",
  /** Debian 12's runc 1.1 does not work with containerd 2.4. */
  runc: "1.5.2",
  /** github.com/containernetworking/plugins; Debian's are of before IPv6 addresses were ready at once. */
  cniPlugins: "1.10.0",
  /** helm/go.mod must name the same. */
  helm: "3.22.0",
  /** storage/go.mod must name the same. */
  localPathProvisioner: "0.0.30",
  /** The newest that needs no newer modules than Kubernetes has; dns/go.mod must name the same. */
  coredns: "1.14.6",
  /** Not all clusters have it; multus/go.mod must name the same. */
  multus: "4.2.3",
  /** Not all clusters have it; network-policies/go.mod must name the same. */
  kubeNetworkPolicies: "0.8.0",
  /** Checks renders of the chart. */
  kubeconform: "0.8.0",
  /** Its CustomResourceDefinitions are what the chart's monitors and rules are checked against. */
  prometheusOperator: "0.94.1",
  /** The oldest Go that compiles the above, and the one fetched where Go is missing or older. */
  go: "1.26.8",
  goMinimum: "1.26.0",
} as const;

/** Compares dotted version numbers: negative if `a` is older than `b`. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split(".").map(Number));
  for (let part = 0; part < 3; part++) {
    const difference = (left?.[part] ?? 0) - (right?.[part] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
