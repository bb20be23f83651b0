import { describe, expect, it } from "@jest/globals";
import { renderCorefile } from "./cluster-dns.ts";

describe("the cluster's DNS service", () => {
  it("answers for the cluster alone, at the control plane's address", () => {
    const corefile = renderCorefile("/state/coredns.kubeconfig");
    expect(corefile).toContain("bind 172.30.0.1 fd00:30::1\n");
    expect(corefile).toContain("kubeconfig /state/coredns.kubeconfig");
    expect(corefile).not.toContain("forward");
  });
});
