import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { TapBinding } from "../../../../../launcher/api/agent.ts";
import { guestMac, NetworkLab, ownPort } from "../../testing/network-lab.ts";

// Needs root, and a kernel with nftables: network namespaces are made, and a guest in one of them.
const bindings: readonly TapBinding[] = [
  { kind: "masquerade", mac: guestMac, ownPorts: [ownPort] },
  { kind: "podIP", ownPorts: [ownPort] },
];
/** Of all settings below /proc/sys/net but what counts, and keys that some kernels make when they are read. */
const readAll = "find /proc/sys/net -type f ! -name '*_count' ! -name '*key*' | sort | xargs grep -sH '' || true";
/** Of interfaces, which other programs may come and go with meanwhile. */
const isOfInterface = (line: string) => /\/(conf|neigh)\/(?!all|default|lo)/.test(line);
const conntrackSizes = ["netfilter/nf_conntrack_max", "netfilter/nf_conntrack_buckets"];
let lab: NetworkLab;

beforeEach(async () => {
  lab = await new NetworkLab({ ipv4: true, ipv6: true }).start();
});
afterEach(async () => await lab[Symbol.asyncDispose]());

describe("wiring a pod's network", () => {
  it.each(bindings)("changes no setting of the node, and no size of conntrack's: $kind", async (binding) => {
    const settings = (...inNamespace: string[]) =>
      execFileSync("env", [...inNamespace, "sh", "-c", readAll], { encoding: "utf8", maxBuffer: 1 << 24 }).split("\n");
    // The agent's own namespace, and one that the pod is connected to.
    const ofNode = () => [
      ...settings().filter((line) => !isOfInterface(line)),
      ...settings("ip", "netns", "exec", lab.node.name).map((line) => `node: ${line}`),
    ];
    const inPod = () => conntrackSizes.map((size) => lab.pod.get(size));
    const [node, pod] = [ofNode(), inPod()];
    expect(node).toContain("node: /proc/sys/net/ipv4/ip_forward:1");
    await lab.wire(binding);
    const after = new Set(ofNode());
    // A kernel that loads a module for it has settings more.
    expect(node.filter((line) => !after.has(line))).toEqual([]);
    expect(inPod()).toEqual(pod);
    // The kernel's own choice by the machine's memory: room for a guest's connections.
    expect(Number(pod[0])).toBeGreaterThanOrEqual(4096);
  });
});
