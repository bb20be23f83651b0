import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { guestMac, NetworkLab } from "../../testing/network-lab.ts";
import { cable } from "../../testing/test-namespace.ts";

// Needs root, and a kernel with nftables: network namespaces are made, and a guest in one of them.
const binding = { kind: "multus", podInterface: "net1" } as const;
const there4 = "172.20.0.1";
const there6 = "fd00:20::1";
const guest4 = "172.20.0.5";
const guest6 = "fd00:20::5";
let lab: NetworkLab;

beforeEach(async () => {
  lab = await new NetworkLab({ ipv4: true, ipv6: false }).start();
});
afterEach(async () => await lab[Symbol.asyncDispose]());

/** A second network from the world to the node, where plugins attach pods to it. */
function secondNetwork(): void {
  cable([lab.node, "lan"], [lab.world, "lan"]);
  lab.node.ip("link set lan mtu 9000");
  lab.world.ip("link set lan mtu 9000");
  lab.world.ip(`addr add ${there4}/24 dev lan`);
  lab.world.ip(`addr add ${there6}/64 dev lan`);
}

/** What the CNI plugin bridge makes: a bridge on the node, and a cable from it into the pod. */
function bridged(): void {
  secondNetwork();
  cable([lab.node, "port1"], [lab.pod, "net1"]);
  lab.node.ip("link add lanbr type bridge");
  for (const port of ["lan", "port1"]) lab.node.ip(`link set ${port} mtu 9000 master lanbr`);
  lab.node.ip("link set lanbr up");
  lab.pod.ip("link set net1 mtu 9000");
}

/** What the CNI plugin macvlan makes. */
function macvlan(): void {
  secondNetwork();
  lab.node.ip("link add link lan name net1 type macvlan mode bridge");
  lab.node.ip(`link set net1 netns ${lab.pod.name}`);
  lab.pod.ip("link set net1 up");
}

function withAddresses(): void {
  lab.pod.ip(`addr add ${guest4}/24 dev net1`);
  lab.pod.ip(`addr add ${guest6}/64 dev net1`);
}

async function speaksBothWays(): Promise<void> {
  for (const each of [lab.guest, lab.world])
    await each.order({ do: "listen", protocol: "tcp", port: 80, label: each === lab.guest ? "guest" : "world" });
  expect(await lab.world.exchange("tcp", guest6, 80)).toBe(`guest saw ${there6} 2`);
  expect(await lab.guest.exchange("tcp", there4, 80, { lengthBytes: 3_000_000 })).toBe(`world saw ${guest4} 3000000`);
  expect(await lab.world.exchange("tcp", guest4, 80, { lengthBytes: 3_000_000 })).toBe(`guest saw ${there4} 3000000`);
  expect(await lab.guest.exchange("tcp", there6, 80)).toBe(`world saw ${guest6} 2`);
}

describe("a guest on another network of its pod", () => {
  it("by a bridge has whatever MAC it likes, and the addresses that the plugin gave", async () => {
    bridged();
    withAddresses();
    const grant = await lab.wire(binding, { name: "storage" });
    expect(grant).toEqual({
      name: "storage",
      device: "tap-storage",
      mtuBytes: 9000,
      vhost: false,
      guest: { ipv4: { address: guest4, prefixLength: 24 }, ipv6: { address: guest6, prefixLength: 64 } },
    });
    await speaksBothWays();
    expect(lab.world.ip(`neigh show ${guest4}`)).toMatch(guestMac);
    // The network is there for frames of any size and kind.
    lab.guest.run("ping", ["-c", "1", "-W", "5", "-M", "do", "-s", "8900", there4]);
  });

  it("by a macvlan has its MAC, and hears what is sent to many", async () => {
    macvlan();
    withAddresses();
    const grant = await lab.wire(binding, { name: "a-rather-long-name-of-an-interface" });
    expect(grant).toMatchObject({
      mac: lab.macOf(lab.pod, "net1"),
      mtuBytes: 9000,
      guest: { ipv4: { address: guest4 } },
    });
    expect(grant.device).toMatch(/^tap-[0-9a-f]{11}$/);
    await speaksBothWays();
    // Nobody in the pod has joined this one's group.
    lab.guest.ip("addr add fd00:20::77/64 dev eth0");
    expect(await lab.world.exchange("tcp", "fd00:20::77", 80)).toBe(`guest saw ${there6} 2`);
    // Another MAC would get no answers there, and does not get out.
    lab.guest.ip("link set eth0 address 02:00:00:00:00:77");
    lab.world.ip("neigh flush dev lan");
    expect(() => lab.guest.run("ping", ["-c", "1", "-W", "1", there4])).toThrow();
    expect(lab.world.ip(`neigh show ${guest4}`)).not.toMatch("02:00:00:00:00:77");
  });

  it("without address management is told nothing, and reaches that network's own servers", async () => {
    bridged();
    const grant = await lab.wire(binding, { name: "lan" });
    expect(grant).toEqual({ name: "lan", device: "tap-lan", mtuBytes: 9000, vhost: false });
    lab.guest.ip(`addr add ${guest4}/24 dev eth0`);
    lab.guest.ip(`addr add ${guest6}/64 dev eth0`);
    await speaksBothWays();
  });

  it("has the pod network beside it, each with its own wiring", async () => {
    bridged();
    withAddresses();
    const { answer, fdCount } = await lab.pod.ask(lab.agent.socketPath, [
      { kind: "tap", name: "lan", queues: 2, vhost: false, binding },
      {
        kind: "tap",
        name: "default",
        queues: 3,
        vhost: false,
        binding: { kind: "masquerade", mac: guestMac, ownPorts: [] },
      },
    ]);
    expect(answer).toMatchObject({ ok: true, taps: [{ name: "lan" }, { name: "default" }] });
    expect(fdCount).toBe(5);
    expect(lab.pod.run("nft", ["list", "tables"]).trim().split("\n").sort()).toEqual([
      "table inet typevisor",
      "table netdev typevisor",
      "table netdev typevisor-net1",
    ]);
    expect(await lab.agent.registry.metrics()).toMatch(
      'typevisor_agent_taps_wired_total{binding="multus",data_path="inProcess"} 1',
    );
  });

  it.each([
    ["an interface that is not there", "net7", /the pod has no interface net7; see whether Multus runs/],
    ["the cluster's network", "eth0", /use masquerade or podIP/],
    ["an interface of another kind", "lo", /the pod's interface lo is of kind hardware; .* bridge, macvlan or vlan/],
  ])("is refused %s", async (_what, podInterface, message) => {
    await expect(lab.wire({ kind: "multus", podInterface })).rejects.toThrow(message);
  });
});
