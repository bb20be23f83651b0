import { describe, expect, it } from "@jest/globals";
import { modulesOf, sharedWithKubernetes } from "../tools/go-modules.ts";
import { versions } from "../tools/versions.ts";
import { renderCorefile } from "./cluster-dns.ts";

describe("the cluster's DNS service", () => {
  it("is built of the modules that Kubernetes is built of, which are compiled by then", () => {
    expect(modulesOf("dns").get("github.com/coredns/coredns")).toBe(`v${versions.coredns}`);
    const { shared, others } = sharedWithKubernetes("dns");
    expect(shared.length).toBeGreaterThan(40);
    expect(others).toEqual([]);
  });

  it("answers for the cluster alone, at the control plane's address", () => {
    const corefile = renderCorefile("/state/coredns.kubeconfig");
    expect(corefile).toContain("bind 172.30.0.1 fd00:30::1\n");
    expect(corefile).toContain("kubeconfig /state/coredns.kubeconfig");
    expect(corefile).not.toContain("forward");
  });
});
