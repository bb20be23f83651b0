import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import { versions } from "../tools/versions.ts";
import { renderCorefile } from "./cluster-dns.ts";

/** Versions by module, as a go.mod names them. */
function modulesOf(directory: string): Map<string, string> {
  const text = readFileSync(join(import.meta.dirname, "..", directory, "go.mod"), "utf8");
  const lines = text.matchAll(/^(?:\t|require )([a-z][^\s]*\.[^\s]+) (v[^\s]+)/gm);
  return new Map([...lines].map(([, name = "", version = ""]) => [name, version]));
}

describe("the cluster's DNS service", () => {
  it("is built of the modules that Kubernetes is built of, which are compiled by then", () => {
    const [dns, kube] = [modulesOf("dns"), modulesOf("kube")];
    expect(dns.get("github.com/coredns/coredns")).toBe(`v${versions.coredns}`);
    const shared = [...dns].filter(([name]) => kube.has(name));
    expect(shared.length).toBeGreaterThan(40);
    expect(shared.filter(([name, version]) => kube.get(name) !== version)).toEqual([]);
  });

  it("answers for the cluster alone, at the control plane's address", () => {
    const corefile = renderCorefile("/state/coredns.kubeconfig");
    expect(corefile).toContain("bind 172.30.0.1 fd00:30::1\n");
    expect(corefile).toContain("kubeconfig /state/coredns.kubeconfig");
    expect(corefile).not.toContain("forward");
  });
});
