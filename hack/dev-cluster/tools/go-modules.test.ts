import { describe, expect, it } from "@jest/globals";
import { modulesOf, sharedWithKubernetes } from "./go-modules.ts";
import { versions } from "./versions.ts";

describe("what clusters need beside Kubernetes", () => {
  /** With the modules that must be of another version. */
  const programs: readonly [directory: string, module: string, version: string, others: string[]][] = [
    ["helm", "helm.sh/helm/v3", versions.helm, []],
    ["storage", "github.com/rancher/local-path-provisioner", versions.localPathProvisioner, []],
    ["dns", "github.com/coredns/coredns", versions.coredns, []],
    // The newest with the API of device plugins that it was written for.
    ["multus", "gopkg.in/k8snetworkplumbingwg/multus-cni.v4", versions.multus, ["k8s.io/kubelet"]],
    [
      "network-policies",
      "sigs.k8s.io/kube-network-policies",
      versions.kubeNetworkPolicies,
      ["github.com/opencontainers/runtime-spec"],
    ],
  ];

  it.each(programs)("%s is built of the modules that Kubernetes is built of", (directory, module, version, others) => {
    expect(modulesOf(directory).get(module)).toBe(`v${version}`);
    const shared = sharedWithKubernetes(directory);
    expect(shared.shared.length).toBeGreaterThan(40);
    expect(shared.others).toEqual(others);
  });
});
