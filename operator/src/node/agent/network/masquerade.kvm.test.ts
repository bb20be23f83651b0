import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { masqueradeNetwork } from "../../../../../launcher/api/agent.ts";
import { arpFrame, type Ends, icmpv6Frame, sctpFrame, tagged, toTap, udpFrame } from "../../testing/frames.ts";
import {
  addresses,
  collectedBy,
  everybodyListens,
  guestMac,
  NetworkLab,
  ownPort,
  seenBy,
} from "../../testing/network-lab.ts";
import { sendUnsound } from "../../testing/unsound-frames.ts";

// Needs root, and a kernel with nftables: network namespaces are made, and a guest in one of them.
const { pod4, pod6, node4, node6, world4, world6 } = addresses;
/** Where no answer is what is expected. */
const silence = { timeoutMs: 500 };
const binding = { kind: "masquerade", mac: guestMac, ownPorts: [ownPort] } as const;
const nearGateway: Ends = {
  sourceMac: guestMac,
  targetMac: masqueradeNetwork.gatewayMac,
  source: "10.0.2.2",
  target: node4,
};

describe("a guest behind masquerade, in a pod with IPv4 and IPv6", () => {
  let lab: NetworkLab;
  beforeAll(async () => {
    lab = await new NetworkLab({ ipv4: true, ipv6: true }).start();
    writeFileSync(lab.agent.vhostNetPath, "");
    const grant = await lab.wire(binding, { vhost: true });
    expect(grant).toEqual({
      name: "default",
      device: "tap-default",
      mtuBytes: 1450,
      vhost: true,
      guest: {
        ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1" },
        ipv6: { address: "fd10:0:2::2", prefixLength: 120, gateway: "fe80::1" },
      },
    });
    await everybodyListens(lab);
  });
  afterAll(async () => await lab[Symbol.asyncDispose]());

  it.each([
    ["tcp", node4, pod4],
    ["udp", node4, pod4],
    ["tcp", node6, pod6],
    ["udp", node6, pod6],
  ] as const)("reaches the node by %s at %s as its pod", async (protocol, host, seenAs) => {
    expect(await lab.guest.exchange(protocol, host, 80)).toMatch(`node saw ${seenAs}`);
  });

  it.each([
    ["tcp", pod4, node4],
    ["udp", pod4, node4],
    ["tcp", pod6, node6],
    ["udp", pod6, node6],
  ] as const)("is reached by %s at its pod's address %s, and sees who comes", async (protocol, host, sees) => {
    expect(await lab.node.exchange(protocol, host, 80)).toMatch(`guest saw ${sees}`);
  });

  it.each([pod4, pod6])("answers pings to its pod at %s, and pings others", (host) => {
    lab.node.run("ping", ["-c", "1", "-W", "5", host]);
    lab.guest.run("ping", ["-c", "1", "-W", "5", host === pod4 ? world4 : world6]);
  });

  it("leaves the launcher its own port, and the way out", async () => {
    for (const host of [pod4, pod6]) expect(await lab.node.exchange("tcp", host, ownPort)).toMatch("launcher saw");
    for (const host of [world4, world6]) expect(await lab.pod.exchange("tcp", host, 80)).toMatch("world saw");
    expect(await lab.pod.exchange("udp", world4, 80)).toBe(`world saw ${pod4}`);
  });

  it("is reached by the launcher at its own address, and by kubectl port-forward at the pod's 127.0.0.1", async () => {
    expect(await lab.pod.exchange("tcp", "10.0.2.2", 80)).toMatch("guest saw 10.0.2.1");
    expect(await lab.pod.exchange("tcp", "fd10:0:2::2", 80)).toMatch("guest saw fd10:0:2::1");
    expect(await lab.pod.exchange("tcp", "127.0.0.1", 80)).toMatch("guest saw 10.0.2.1");
    for (const host of [pod4, pod6]) expect(await lab.pod.exchange("tcp", host, 80)).toMatch("guest saw");
    expect(await lab.pod.exchange("tcp", "127.0.0.1", ownPort)).toMatch("launcher saw");
  });

  it("does not reach what the launcher listens on", async () => {
    for (const host of [pod4, pod6, "10.0.2.1", "fd10:0:2::1"])
      await expect(lab.guest.exchange("tcp", host, ownPort, silence)).rejects.toThrow("no answer");
  });

  it("reaches itself through a Service, and at its pod's address", async () => {
    lab.node.run("nft", ["-f", "-"], service(pod4, pod6));
    expect(await lab.guest.exchange("tcp", "10.96.0.10", 80)).toMatch(`guest saw ${node4}`);
    expect(await lab.guest.exchange("udp", "10.96.0.10", 80)).toMatch(`guest saw ${node4}`);
    expect(await lab.guest.exchange("tcp", "fd00:10:96::10", 80)).toMatch("guest saw");
    expect(await lab.guest.exchange("tcp", pod4, 80)).toMatch("guest saw 10.0.2.1");
    expect(await lab.guest.exchange("tcp", pod6, 80)).toMatch("guest saw fd10:0:2::1");
  });

  it.each([world4, world6])("learns of a smaller path to %s from ICMP, and sends and receives much", async (host) => {
    const big = ["-c", "1", "-W", "5", "-M", "do", "-s", "1380", host];
    // The answer to the first is that it is too big, which the second then knows.
    expect(() => lab.guest.run("ping", big)).toThrow();
    expect(lab.guest.ip(`route get ${host}`)).toMatch("mtu 1300");
    expect(await lab.guest.exchange("tcp", host, 80, { lengthBytes: 3_000_000 })).toMatch(/ 3000000$/);
    expect(await lab.world.exchange("tcp", host === world4 ? pod4 : pod6, 80, { lengthBytes: 3_000_000 })).toMatch(
      / 3000000$/,
    );
  });

  it.each([
    [world4, ["10.0.2.1", node4, world4]],
    [world6, ["fd10:0:2::1", node6, world6]],
  ])("sees each hop on its way to %s", (host, hops) => {
    const hop = (distance: number) => {
      try {
        return lab.guest.run("ping", ["-n", "-c", "1", "-W", "5", "-t", `${distance}`, host]);
      } catch (error) {
        return String((error as { stdout?: unknown }).stdout);
      }
    };
    const seen = hops.map((_hop, i) => /^(?:\d+ bytes from|From) (\S+?):? icmp_seq/m.exec(hop(i + 1))?.[1]);
    expect(seen).toEqual(hops);
  });

  it("is told that who asked it has gone", async () => {
    await lab.guest.order({ do: "sniff" });
    expect(await lab.node.exchange("udp", pod4, 80)).toMatch("guest saw");
    const [here, there] = [hex("10.0.2.2"), hex(node4)];
    const question = new RegExp(`^45.*${there}${here}(....)0050`);
    const ports = (await lab.guest.seen()).map((packet) => question.exec(packet)?.[1]);
    const port = Number.parseInt(ports.findLast((each) => each !== undefined) ?? "", 16);
    const late = udpFrame(nearGateway, { from: 80, to: port }, "late");
    // Port unreachable, about what the guest sent: the one that answers knows it by the pod's address.
    const told = new RegExp(`^45.*${there}${here}0303.*${here}${there}0050`);
    await collectedBy(lab.guest, () => lab.send(toTap(late)), told);
  });

  it("is told of larger segments than its pod's link takes", async () => {
    // It has taken no notice of the MTU that it was given.
    lab.guest.ip("link set eth0 mtu 1500");
    expect(await lab.guest.exchange("tcp", node4, 80, { lengthBytes: 1_000_000 })).toMatch(/ 1000000$/);
    expect(await lab.node.exchange("tcp", pod4, 80, { lengthBytes: 1_000_000 })).toMatch(/ 1000000$/);
    lab.guest.ip("link set eth0 mtu 1450");
  });

  it("speaks SCTP", async () => {
    const init = sctpFrame(nearGateway, { from: 5000, to: 5001 }, "init");
    const seen = await seenBy(lab.node, () => lab.send(toTap(init)), /^45.{16}84/);
    expect(seen.some((packet) => packet.startsWith("45") && packet.includes(`${hex(pod4)}${hex(node4)}13881389`))).toBe(
      true,
    );
  });

  it("reaches a machine whose address lies in the guest's own range", async () => {
    lab.world.ip("addr add 10.0.2.99/32 dev lo");
    lab.node.ip(`route add 10.0.2.99 via ${world4}`);
    expect(await lab.guest.exchange("tcp", "10.0.2.99", 80)).toMatch("world saw");
    expect(await lab.pod.exchange("tcp", "10.0.2.99", 80)).toMatch("world saw");
  });

  it("finds its own address free, its gateway there, and neighbours that are elsewhere", async () => {
    const asks = (target: string, source = "10.0.2.2") =>
      toTap(arpFrame({ ...nearGateway, source, target, targetMac: "ff:ff:ff:ff:ff:ff" }, { asks: true }));
    const send = async () => {
      await lab.send(asks("10.0.2.2", "0.0.0.0"));
      await lab.send(asks("10.0.2.77"));
      await lab.send(asks("10.0.2.1"));
    };
    const replies = await seenBy(lab.guest, send, new RegExp(`^0001080006040002020000000001${hex("10.0.2.1")}`));
    const from = (address: string) =>
      replies.filter((each) => each.startsWith(`0001080006040002020000000001${hex(address)}`));
    expect(from("10.0.2.77")).not.toEqual([]);
    expect(from("10.0.2.2")).toEqual([]);
  });

  it("passes for nobody else", async () => {
    const ports = { from: 9, to: 9 };
    const evil = [
      udpFrame({ ...nearGateway, source: "10.0.2.77" }, ports, "evil address"),
      udpFrame({ ...nearGateway, source: pod4 }, ports, "evil pod"),
      udpFrame({ ...nearGateway, sourceMac: "02:00:00:00:00:99" }, ports, "evil MAC"),
      udpFrame({ ...nearGateway, target: "127.0.0.1" }, { from: 9, to: ownPort }, "evil loopback"),
      tagged(udpFrame({ ...nearGateway, source: "10.0.2.77" }, ports, "evil tag")),
      udpFrame({ ...nearGateway, source: "0.0.0.0" }, { from: 68, to: 67 }, "evil lease"),
    ];
    const send = async () => {
      for (const frame of evil) await lab.send(toTap(frame));
      await lab.send(toTap(udpFrame(nearGateway, ports, "good")));
    };
    const seen = await seenBy(lab.node, send, new RegExp(Buffer.from("good").toString("hex")));
    expect(seen.filter((packet) => packet.includes(Buffer.from("evil").toString("hex")))).toEqual([]);
    // Nor does the pod's kernel believe it.
    await lab.send(toTap(arpFrame({ ...nearGateway, source: node4 })));
    expect(lab.pod.ip("neigh show dev tap-default")).not.toMatch(node4);
  });

  it("hurts nobody with frames that are not sound", async () => {
    const { refused, large } = await sendUnsound(lab, nearGateway);
    expect(refused).toEqual([]);
    expect(large.filter((bytes) => bytes > 1450)).toEqual([]);
    expect(await lab.guest.exchange("tcp", node4, 80)).toMatch(`node saw ${pod4}`);
    expect(await lab.node.exchange("tcp", pod4, ownPort)).toMatch("launcher saw");
    expect(await lab.pod.exchange("udp", world4, 80)).toMatch("world saw");
  });

  it("serves nobody else: neither DHCP nor routes", async () => {
    const all: Ends = { ...nearGateway, targetMac: "ff:ff:ff:ff:ff:ff", target: "255.255.255.255" };
    const all6: Ends = { ...nearGateway, targetMac: "33:33:00:00:00:01", source: "fe80::2", target: "ff02::1" };
    // Some plugins have their pods learn routes.
    lab.pod.set("ipv6/conf/tap-default/accept_ra", "2");
    const routes = lab.pod.ip("-6 route show");
    const send = async () => {
      await lab.send(toTap(udpFrame(all, { from: 67, to: 68 }, "evil offer")));
      await lab.send(toTap(udpFrame({ ...nearGateway, target: pod4 }, { from: 67, to: 68 }, "evil offer")));
      await lab.send(toTap(icmpv6Frame(all6, Buffer.from("860000004000070800000000000000000101020000000099", "hex"))));
      await lab.send(toTap(udpFrame(nearGateway, { from: 9, to: 9 }, "good")));
    };
    const seen = await seenBy(lab.node, send, new RegExp(Buffer.from("good").toString("hex")));
    expect(seen.filter((packet) => packet.includes(Buffer.from("evil").toString("hex")))).toEqual([]);
    expect(seen.filter((packet) => /^6.{11}3aff.{64}86/.test(packet))).toEqual([]);
    expect(lab.pod.ip("-6 route show")).toBe(routes);
  });

  it("is answered by the launcher alone when it asks for addresses", async () => {
    // Descriptors: the TAP's queue, vhost-net, the answering TAP.
    const answering = 2;
    const ends: Ends = { ...nearGateway, targetMac: "ff:ff:ff:ff:ff:ff", source: "0.0.0.0", target: "255.255.255.255" };
    const ends6: Ends = { ...nearGateway, targetMac: "33:33:00:00:00:02", source: "fe80::2", target: "ff02::2" };
    await lab.pod.order({ do: "collect", descriptor: answering });
    const askAll = async () => {
      await lab.send(toTap(udpFrame(ends, { from: 68, to: 67 }, "discover")));
      await lab.send(toTap(icmpv6Frame(ends6, Buffer.from("8500000000000000", "hex"))));
      await lab.send(toTap(icmpv6Frame(ends6, Buffer.from("8700000000000000fe800000000000000000000000000001", "hex"))));
      await lab.send(toTap(udpFrame(nearGateway, { from: 9, to: 9 }, "not for it")));
    };
    const seen = await collectedBy(lab.pod, askAll, /^3333.*86dd.*3aff.{64}87/);
    expect(seen.some((frame) => frame.endsWith(Buffer.from("discover").toString("hex")))).toBe(true);
    expect(seen.some((frame) => /86dd.*3aff.{64}85/.test(frame))).toBe(true);
    expect(seen.some((frame) => frame.endsWith(Buffer.from("not for it").toString("hex")))).toBe(false);
    // What it answers comes to the guest, and goes nowhere else.
    const offer = udpFrame(
      { ...nearGateway, targetMac: guestMac, source: "10.0.2.1", target: "10.0.2.2" },
      { from: 67, to: 68 },
      "offer",
    );
    const offered = new RegExp(Buffer.from("offer").toString("hex"));
    const send = () => lab.pod.order({ do: "send", descriptor: answering, hex: offer.toString("hex") });
    await seenBy(lab.guest, send, offered);
    expect((await lab.node.seen()).some((packet) => offered.test(packet))).toBe(false);
  });

  it("changes nothing outside of the pod", () => {
    for (const list of [
      execFileSync("nft", ["list", "tables"], { encoding: "utf8" }),
      lab.node.run("nft", ["list", "tables"]),
    ])
      expect(list).not.toMatch("typevisor");
    expect(execFileSync("ip", ["-brief", "link"], { encoding: "utf8" })).not.toMatch("tap-default");
  });
});

describe("masquerade to listed ports", () => {
  it("takes those alone, and what a launcher asks next time", async () => {
    await using lab = await new NetworkLab({ ipv4: true, ipv6: false }).start();
    const grant = await lab.wire({ ...binding, ports: [{ protocol: "TCP", port: 80 }] });
    expect(grant.guest).toEqual({ ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1" } });
    await everybodyListens(lab);
    expect(await lab.node.exchange("tcp", pod4, 80)).toMatch("guest saw");
    await expect(lab.node.exchange("tcp", pod4, 81)).rejects.toThrow("ECONNREFUSED");
    await expect(lab.node.exchange("udp", pod4, 80, silence)).rejects.toThrow();
    // The container starts anew, with other ports.
    await lab.pod.order({ do: "release" });
    await lab.wire({ ...binding, ports: [{ protocol: "UDP", port: 80 }] });
    expect(await lab.node.exchange("udp", pod4, 80)).toMatch("guest saw");
    await expect(lab.node.exchange("tcp", pod4, 80)).rejects.toThrow("ECONNREFUSED");
  });
});

describe("masquerade in a pod with IPv6 alone", () => {
  it("works as well, and gives the guest no IPv4", async () => {
    await using lab = await new NetworkLab({ ipv4: false, ipv6: true }).start();
    const grant = await lab.wire(binding);
    expect(grant.guest).toEqual({ ipv6: { address: "fd10:0:2::2", prefixLength: 120, gateway: "fe80::1" } });
    await everybodyListens(lab);
    expect(await lab.guest.exchange("tcp", world6, 80)).toMatch(`world saw ${pod6}`);
    expect(await lab.world.exchange("udp", pod6, 80)).toMatch(`guest saw ${world6}`);
  });
});

/** What kube-proxy does for a Service with the pod as its only endpoint. */
function service(ipv4: string, ipv6: string): string {
  return `table inet services {
    chain prerouting { type nat hook prerouting priority dstnat;
      ip daddr 10.96.0.10 meta l4proto { tcp, udp } th dport 80 dnat ip to ${ipv4}
      ip6 daddr fd00:10:96::10 tcp dport 80 dnat ip6 to ${ipv6}
    }
    chain postrouting { type nat hook postrouting priority srcnat;
      ip saddr ${ipv4} ip daddr ${ipv4} masquerade
      ip6 saddr ${ipv6} ip6 daddr ${ipv6} masquerade
    }
  }`;
}

function hex(address: string): string {
  return Buffer.from(address.split(".").map(Number)).toString("hex");
}
