import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { GuestAddresses } from "../../../../../launcher/api/agent.ts";
import { addresses, guestMac, NetworkLab, ownPort, seenBy } from "../../testing/network-lab.ts";
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

/** The kernel lists routes in an order of its own. */
function byDestination({ ipv4, ipv6 }: GuestAddresses = {}): object {
  const sorted = (family: GuestAddresses["ipv4"] | GuestAddresses["ipv6"]) => ({
    ...family,
    routes: family?.routes?.toSorted((a, b) => a.destination.localeCompare(b.destination)),
  });
  return { ipv4: sorted(ipv4), ipv6: sorted(ipv6) };
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

  it.each([
    ["a bridge", bridged],
    ["a macvlan", macvlan],
  ])("has no rival in its pod's kernel on %s", async (_what, plugin) => {
    plugin();
    withAddresses();
    await lab.wire(binding);
    lab.guest.ip("link set eth0 down");
    const sent = () => Number(lab.pod.run("cat", ["/sys/class/net/net1/statistics/tx_packets"]));
    const before = sent();
    for (const host of [there4, there6])
      expect(() => lab.pod.run("ping", ["-c", "1", "-W", "1", "-I", "net1", host])).toThrow();
    // Joins a group, which routers and switches would be told.
    lab.pod.ip("addr add fd00:20::66/64 dev net1");
    expect(sent()).toBe(before);
    lab.guest.ip("link set eth0 up");
    lab.guest.ip(`addr replace ${guest6}/64 dev eth0`);
    await speaksBothWays();
    expect(sent()).toBeGreaterThan(before);
    expect(lab.world.ip(`neigh show ${guest4}`)).toMatch(lab.macOf(lab.guest, "eth0"));
  });

  it("is the only one to be asked for its addresses, on the pod's other networks too", async () => {
    bridged();
    withAddresses();
    lab.node.ip(`route add ${guest4}/32 dev pod1`);
    lab.node.run("ping", ["-c", "1", "-W", "5", guest4]);
    await lab.wire(binding);
    lab.node.ip("neigh flush dev pod1");
    expect(() => lab.node.run("ping", ["-c", "1", "-W", "1", guest4])).toThrow();
    expect(lab.node.ip("neigh show dev pod1")).not.toMatch(new RegExp(`${guest4} lladdr`));
    lab.node.run("ping", ["-c", "1", "-W", "5", addresses.pod4]);
  });

  it("has that network's routes to itself, also where the launcher asks again; the pod keeps its own", async () => {
    bridged();
    withAddresses();
    // As the plugins add them: before the pod's own, or beside them.
    lab.pod.ip(`route prepend default via ${there4} dev net1`);
    lab.pod.ip(`route add 198.51.100.0/24 via ${there4} dev net1`);
    lab.pod.ip("route add 203.0.113.0/24 dev net1 scope link");
    lab.pod.ip(`addr add ${addresses.pod6}/64 dev eth0`);
    lab.pod.ip(`route add default via ${addresses.node6} dev eth0`);
    lab.pod.ip(`route append default via ${there6} dev net1`);
    lab.pod.ip("route add fd00:21::/64 via fd00:20::9 dev net1");
    await lab.world.order({ do: "listen", protocol: "tcp", port: 80, label: "world" });
    await lab.pod.order({ do: "listen", protocol: "tcp", port: ownPort, label: "launcher" });
    const reached = () => lab.world.exchange("tcp", addresses.pod4, ownPort, { timeoutMs: 3_000 });
    const guest = {
      ipv4: {
        address: guest4,
        prefixLength: 24,
        gateway: there4,
        routes: [{ destination: "198.51.100.0/24", gateway: there4 }, { destination: "203.0.113.0/24" }],
      },
      ipv6: {
        address: guest6,
        prefixLength: 64,
        gateway: there6,
        gatewayMac: lab.macOf(lab.world, "lan"),
        routes: [{ destination: "fd00:21::/64", gateway: "fd00:20::9" }],
      },
    };
    for (let round = 0; round < 2; round++) {
      const grant = await lab.wire(binding);
      expect(byDestination(grant.guest)).toEqual(byDestination(guest));
      expect(lab.pod.ip("-4 route show dev net1")).toBe("");
      expect(lab.pod.ip("-6 route show dev net1")).not.toMatch(/fd00|default/);
      expect(lab.pod.ip("-6 route show default")).toMatch(new RegExp(`^default via ${addresses.node6} dev eth0`));
      expect(await reached()).toMatch("launcher saw");
      expect(await lab.pod.exchange("tcp", addresses.world4, 80)).toMatch(`world saw ${addresses.pod4}`);
      await lab.pod.order({ do: "release" });
    }
  });

  it("is told what the plugin gave, not what the pod's kernel has learned of that network's routers", async () => {
    bridged();
    lab.pod.ip(`addr add ${guest4}/24 dev net1`);
    lab.pod.ip("addr add fd00:20::aa/64 dev net1 valid_lft 3600 preferred_lft 3600");
    lab.pod.ip("route add default via fe80::9 dev net1 proto ra");
    for (let round = 0; round < 2; round++) {
      const { guest } = await lab.wire(binding);
      expect(guest).toEqual({ ipv4: { address: guest4, prefixLength: 24 } });
      await lab.pod.order({ do: "release" });
    }
    // RFC 4861, section 4.1: its kernel's question for routers comes to that network.
    await seenBy(lab.world, () => lab.wire(binding), /^6.{11}3aff.{64}85/);
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
