import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { masqueradeNetwork, type TapBinding } from "../../../../../launcher/api/agent.ts";
import { type Ends, sctpFrame, toTap } from "../../testing/frames.ts";
import {
  addresses,
  everybodyListens,
  type GuestPod,
  guestMac,
  NetworkLab,
  neighbourAddresses,
  ownPort,
  seenBy,
} from "../../testing/network-lab.ts";
import { parseAddress } from "./ip-address.ts";

// Needs root, and a kernel with nftables: network namespaces are made, and guests in two of them.
const { pod4, pod6 } = addresses;
const { pod4: neighbour4, pod6: neighbour6, node4 } = neighbourAddresses;
const masquerade: TapBinding = { kind: "masquerade", mac: guestMac, ownPorts: [ownPort] };
const nearGateway = { sourceMac: guestMac, targetMac: masqueradeNetwork.gatewayMac };
/** Less than the first pod has: a path between the two. */
const NEIGHBOUR_MTU = 1320;
const hex = (address: string) => Buffer.from(parseAddress(address)).toString("hex");

describe.each([
  ["that is masqueraded as well", masquerade, { ipv4: "10.0.2.2", ipv6: "fd10:0:2::2" }],
  [
    "with its pod's own addresses",
    { kind: "podIP", ownPorts: [ownPort] } as const,
    { ipv4: neighbour4, ipv6: neighbour6 },
  ],
])("a masqueraded guest and one in another pod %s", (_what, binding, seenAs) => {
  let lab: NetworkLab;
  let neighbour: GuestPod & AsyncDisposable;
  beforeAll(async () => {
    lab = await new NetworkLab({ ipv4: true, ipv6: true }).start();
    neighbour = lab.addNeighbour(NEIGHBOUR_MTU);
    await lab.wire(masquerade);
    await lab.wire(binding, {}, neighbour);
    await everybodyListens(lab);
    for (const protocol of ["tcp", "udp"] as const)
      await neighbour.guest.order({ do: "listen", protocol, port: 80, label: "neighbour" });
  });
  /** Whom the neighbour's frames are to, where it has its pod's own addresses. */
  const nearNode = () => ({ sourceMac: lab.macOf(neighbour.pod, "eth0"), targetMac: lab.macOf(lab.node, "pod2") });
  afterAll(async () => {
    await neighbour[Symbol.asyncDispose]();
    await lab[Symbol.asyncDispose]();
  });

  it.each([
    ["tcp", neighbour4, pod4],
    ["udp", neighbour4, pod4],
    ["tcp", neighbour6, pod6],
    ["udp", neighbour6, pod6],
  ] as const)("reach each other by %s at %s, and see who comes", async (protocol, host, sees) => {
    expect(await lab.guest.exchange(protocol, host, 80)).toMatch(`neighbour saw ${sees}`);
    expect(await neighbour.guest.exchange(protocol, sees, 80)).toMatch(`guest saw ${host}`);
  });

  it.each([neighbour4, neighbour6])("ping each other at %s", (host) => {
    lab.guest.run("ping", ["-c", "1", "-W", "5", host]);
    neighbour.guest.run("ping", ["-c", "1", "-W", "5", host === neighbour4 ? pod4 : pod6]);
  });

  it.each([neighbour4, neighbour6])("learn from ICMP how much the path to %s takes, and move much", async (host) => {
    const big = ["-c", "1", "-W", "5", "-M", "do", "-s", "1380", host];
    expect(() => lab.guest.run("ping", big)).toThrow();
    expect(lab.guest.ip(`route get ${host}`)).toMatch(`mtu ${NEIGHBOUR_MTU}`);
    expect(await lab.guest.exchange("tcp", host, 80, { lengthBytes: 3_000_000 })).toMatch(/ 3000000$/);
    const back = host === neighbour4 ? pod4 : pod6;
    expect(await neighbour.guest.exchange("tcp", back, 80, { lengthBytes: 3_000_000 })).toMatch(/ 3000000$/);
  });

  it.each([
    ["10.0.2.2", neighbour4, pod4, seenAs.ipv4],
    ["fd10:0:2::2", neighbour6, pod6, seenAs.ipv6],
  ])("speak SCTP, from %s to %s", async (source, target, from, to) => {
    const ends: Ends = { ...nearGateway, source, target };
    const init = sctpFrame(ends, { from: 5000, to: 5001 }, "init");
    // Source, target, ports: as the guest that it came to sees them.
    const arrived = new RegExp(`^[46].*${hex(from)}${hex(to)}13881389`);
    await seenBy(neighbour.guest, () => lab.send(toTap(init)), arrived);
    const own = binding.kind === "masquerade" ? nearGateway : nearNode();
    const answer = sctpFrame({ ...own, source: to, target: from }, { from: 5001, to: 5000 }, "initAck");
    const answered = new RegExp(`^[46].*${hex(target)}${hex(source)}13891388`);
    const send = () => neighbour.pod.order({ do: "send", descriptor: 0, hex: toTap(answer) });
    await seenBy(lab.guest, send, answered);
  });

  it.each([
    ["10.0.2.2", neighbour4, "0303"],
    ["fd10:0:2::2", neighbour6, "0104"],
  ])("are told that nobody listens, in their own names: %s by %s", async (own, host, portUnreachable) => {
    await expect(lab.guest.exchange("tcp", host, 81)).rejects.toThrow("ECONNREFUSED");
    // The error is about a packet that has another source and target by then; the one that asked must know it again.
    const told = new RegExp(`^[46].*${hex(host)}${hex(own)}${portUnreachable}.*${hex(own)}${hex(host)}`);
    const ask = () => lab.guest.exchange("udp", host, 81, { timeoutMs: 500 }).catch(() => {});
    await seenBy(lab.guest, ask, told);
  });

  it("reach each other through a Service, by TCP and UDP", async () => {
    lab.node.run("nft", ["-f", "-"], service(neighbour4, neighbour6));
    for (const [address, sees] of [
      ["10.96.0.20", pod4],
      ["fd00:10:96::20", pod6],
    ] as const)
      for (const protocol of ["tcp", "udp"] as const)
        expect(await lab.guest.exchange(protocol, address, 80)).toMatch(`neighbour saw ${sees}`);
    // And itself, by the rule of the same Service: it comes back in the name of its node.
    expect(await neighbour.guest.exchange("tcp", "10.96.0.20", 80)).toMatch(`neighbour saw ${node4}`);
  });
});

/** What kube-proxy does for a Service with one endpoint. */
function service(ipv4: string, ipv6: string): string {
  return `table inet services {
    chain prerouting { type nat hook prerouting priority dstnat;
      ip daddr 10.96.0.20 meta l4proto { tcp, udp } th dport 80 dnat ip to ${ipv4}
      ip6 daddr fd00:10:96::20 meta l4proto { tcp, udp } th dport 80 dnat ip6 to ${ipv6}
    }
    chain postrouting { type nat hook postrouting priority srcnat;
      ip saddr ${ipv4} ip daddr ${ipv4} masquerade
      ip6 saddr ${ipv6} ip6 daddr ${ipv6} masquerade
    }
  }`;
}
