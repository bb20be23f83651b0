import { describe, expect, it } from "@jest/globals";
import { modulesOf, sharedWithKubernetes } from "../tools/go-modules.ts";
import { versions } from "../tools/versions.ts";

describe("the enforcement of NetworkPolicies in a dev cluster", () => {
  it("is built of the modules that Kubernetes is built of, which are compiled by then, but for one specification", () => {
    expect(modulesOf("network-policies").get("sigs.k8s.io/kube-network-policies")).toBe(
      `v${versions.kubeNetworkPolicies}`,
    );
    const { shared, others } = sharedWithKubernetes("network-policies");
    expect(shared.length).toBeGreaterThan(40);
    expect(others).toEqual(["github.com/opencontainers/runtime-spec"]);
  });
});
