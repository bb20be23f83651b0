import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { TapGrant } from "../../../../../launcher/api/agent.ts";
import { arpFrame, type Ends, icmpv6Frame, ipv4Frame, tagged, toTap, udpFrame } from "../../testing/frames.ts";
import { addresses, everybodyListens, NetworkLab, ownPort, seenBy } from "../../testing/network-lab.ts";
import { sendUnsound } from "../../testing/unsound-frames.ts";
import { parseAddress } from "./ip-address.ts";

// Needs root, and a kernel with nftables: network namespaces are made, and a guest in one of them.
const { pod4, pod6, node4, node6, world4, world6 } = addresses;
const binding = { kind: "podIP", ownPorts: [ownPort] } as const;
const TCP = 6;
const hexOf = (text: string) => Buffer.from(text).toString("hex");

describe.each([
  ["of a bridge", false],
  ["point to point, as Calico's", true],
])("a guest with its pod's own addresses on a network %s", (_what, pointToPoint) => {
  let lab: NetworkLab;
  let grant: TapGrant;
  let podMac: string;
  let nodeMac: string;
  beforeAll(async () => {
    lab = await new NetworkLab({ ipv4: true, ipv6: true, pointToPoint }).start();
    podMac = lab.macOf(lab.pod, "eth0");
    nodeMac = lab.macOf(lab.node, "pod1");
    writeFileSync(lab.agent.vhostNetPath, "");
    grant = await lab.wire(binding, { vhost: true });
    await everybodyListens(lab);
  });
  afterAll(async () => await lab[Symbol.asyncDispose]());

  it("is told the pod's addresses, routes, MAC and MTU", () => {
    expect(grant).toEqual({
      name: "default",
      device: "tap-default",
      mtuBytes: 1450,
      vhost: true,
      mac: podMac,
      guest: pointToPoint
        ? {
            ipv4: {
              address: pod4,
              prefixLength: 32,
              gateway: "169.254.1.1",
              routes: [{ destination: "169.254.1.1/32" }],
            },
            ipv6: { address: pod6, prefixLength: 128, gateway: "fe80::eeee" },
          }
        : {
            ipv4: { address: pod4, prefixLength: 24, gateway: node4 },
            ipv6: { address: pod6, prefixLength: 64, gateway: node6, gatewayMac: nodeMac },
          },
    });
  });

  it.each([
    ["tcp", node4, pod4],
    ["udp", node4, pod4],
    ["tcp", node6, pod6],
    ["udp", node6, pod6],
    ["tcp", world4, pod4],
    ["udp", world6, pod6],
  ] as const)("reaches %s %s", async (protocol, host, seenAs) => {
    expect(await lab.guest.exchange(protocol, host, 80)).toMatch(`saw ${seenAs}`);
  });

  it.each([
    ["tcp", pod4],
    ["udp", pod4],
    ["tcp", pod6],
    ["udp", pod6],
  ] as const)("is reached by %s at %s from node and world", async (protocol, host) => {
    expect(await lab.node.exchange(protocol, host, 80)).toMatch("guest saw");
    expect(await lab.world.exchange(protocol, host, 80)).toMatch("guest saw");
  });

  it("leaves the launcher its own port, and what it begins", async () => {
    for (const host of [pod4, pod6]) expect(await lab.node.exchange("tcp", host, ownPort)).toMatch("launcher saw");
    for (const host of [world4, world6]) {
      expect(await lab.pod.exchange("tcp", host, 80, { lengthBytes: 1_000_000 })).toMatch(/world saw .* 1000000$/);
      expect(await lab.pod.exchange("udp", host, 80)).toMatch("world saw");
    }
  });

  it("resolves anew like the launcher does", async () => {
    for (const each of [lab.guest, lab.pod, lab.node])
      each.ip(`neigh flush dev ${each === lab.node ? "pod1" : "eth0"}`);
    expect(await lab.guest.exchange("tcp", world4, 80)).toMatch("world saw");
    expect(await lab.node.exchange("tcp", pod4, ownPort)).toMatch("launcher saw");
    expect(await lab.world.exchange("tcp", pod6, 80)).toMatch("guest saw");
  });

  it.each([pod4, pod6])("answers pings to %s", (host) => {
    lab.node.run("ping", ["-c", "1", "-W", "5", host]);
  });

  it.each([world4, world6])("learns of a smaller path to %s, as the launcher does", async (host) => {
    for (const each of [lab.guest, lab.pod]) {
      expect(() => each.run("ping", ["-c", "1", "-W", "1", "-M", "do", "-s", "1380", host])).toThrow();
      expect(each.ip(`route get ${host}`)).toMatch("mtu 1300");
    }
    expect(await lab.guest.exchange("tcp", host, 80, { lengthBytes: 3_000_000 })).toMatch(/ 3000000$/);
    expect(await lab.world.exchange("tcp", host === world4 ? pod4 : pod6, 80, { lengthBytes: 3_000_000 })).toMatch(
      / 3000000$/,
    );
  });

  it("passes for nobody else", async () => {
    const good: Ends = { sourceMac: podMac, targetMac: nodeMac, source: pod4, target: node4 };
    const ports = { from: 9, to: 9 };
    // RFC 4861, section 4.4: an advertisement of the router's address, to override others.
    const advertisement = (target: string) =>
      Buffer.concat([
        Buffer.from("8800000020000000", "hex"),
        parseAddress(target),
        Buffer.from("0201020000000099", "hex"),
      ]);
    const launcherSegment = Buffer.concat([
      Buffer.from([ownPort >> 8, ownPort & 0xff]),
      Buffer.from("..evil port........."),
    ]);
    const ends6: Ends = { ...good, source: pod6, target: node6 };
    const evil = [
      udpFrame({ ...good, source: "10.244.0.77" }, ports, "evil address"),
      udpFrame({ ...good, sourceMac: "02:00:00:00:00:99" }, ports, "evil MAC"),
      udpFrame(good, { from: 67, to: 68 }, "evil server"),
      udpFrame({ ...good, source: "0.0.0.0" }, { from: 68, to: 67 }, "evil lease"),
      tagged(udpFrame(good, ports, "evil tag")),
      ipv4Frame(good, TCP, launcherSegment),
      arpFrame({ ...good, source: "10.244.0.88" }),
      arpFrame(good, { claimedMac: "02:00:00:00:00:99" }),
      icmpv6Frame(ends6, advertisement("fd00:10:244::99")),
      icmpv6Frame({ ...ends6, source: "fe80::77" }, Buffer.from("8600000000000000000000000000000000", "hex")),
      ...(pointToPoint ? [icmpv6Frame(ends6, advertisement("fe80::eeee"))] : []),
    ];
    const send = async () => {
      for (const frame of evil) await lab.send(toTap(frame));
      await lab.send(toTap(udpFrame(good, ports, "good")));
    };
    const seen = await seenBy(lab.node, send, new RegExp(hexOf("good")));
    expect(seen.filter((packet) => packet.includes(hexOf("evil")))).toEqual([]);
    // ARP with a false address, advertisements.
    expect(seen.filter((packet) => packet.startsWith("0001080006040002") && packet.includes("0af40058"))).toEqual([]);
    expect(seen.filter((packet) => packet.includes("020000000099"))).toEqual([]);
    expect(seen.filter((packet) => /^6.{11}3aff.{64}86/.test(packet))).toEqual([]);
  });

  it("hurts nobody with frames that are not sound", async () => {
    const ends: Ends = { sourceMac: podMac, targetMac: nodeMac, source: pod4, target: node4 };
    const { refused, large } = await sendUnsound(lab, ends);
    expect(refused).toEqual([]);
    expect(large.filter((bytes) => bytes > 1450)).toEqual([]);
    expect(await lab.guest.exchange("tcp", node4, 80)).toMatch(`node saw ${pod4}`);
    expect(await lab.node.exchange("tcp", pod4, ownPort)).toMatch("launcher saw");
    expect(await lab.pod.exchange("udp", world4, 80)).toMatch("world saw");
  });

  it("goes on as it was when the launcher is started anew", async () => {
    await lab.pod.order({ do: "release" });
    // Nobody holds the TAP: the launcher's ports are there all the same.
    expect(await lab.node.exchange("tcp", pod4, ownPort)).toMatch("launcher saw");
    expect(await lab.wire(binding)).toEqual({ ...grant, vhost: false });
    expect(await lab.node.exchange("tcp", pod4, 80)).toMatch("guest saw");
    expect(await lab.guest.exchange("tcp", world6, 80)).toMatch("world saw");
  });
});

it("a guest whose pod has a gateway that answers no ARP finds it all the same", async () => {
  await using lab = await new NetworkLab({ ipv4: true, ipv6: false, pointToPoint: true, silentGateway: true }).start();
  const grant = await lab.wire(binding);
  expect(grant.guest?.ipv4?.gateway).toBe("169.254.1.1");
  await everybodyListens(lab);
  expect(await lab.guest.exchange("tcp", world4, 80)).toBe(`world saw ${pod4} 2`);
  expect(lab.guest.ip("neigh show 169.254.1.1")).toMatch(lab.macOf(lab.node, "pod1"));
  expect(await lab.world.exchange("udp", pod4, 80)).toBe(`guest saw ${world4}`);
  expect(await lab.pod.exchange("tcp", world4, 80)).toBe(`world saw ${pod4} 2`);
});
