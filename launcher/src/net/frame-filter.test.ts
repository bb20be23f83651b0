import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { ipv4Bytes, ipv6Bytes } from "./addresses.ts";
import { icmpv6Frame } from "./build-frame.ts";
import { FILTER_BYTES, FrameFilter } from "./frame-filter.ts";
import { guestUdp, macOfGuest } from "./testing/guest.ts";

const OTHER_MAC = Uint8Array.of(2, 0, 0, 0, 0, 9);
const own4 = ipv4Bytes("10.0.2.2");
const own6 = ipv6Bytes("fd10:0:2::2");
const router = ipv6Bytes("fe80::1");
const linkLocal = ipv6Bytes("fe80::5a:12:3456");
const anyone = new Uint8Array(16);
const allRouters = ipv6Bytes("ff02::2");

const identity = { mac: macOfGuest, ipv4: own4, ipv6: own6, router };
const strict = new FrameFilter(identity, { drops: true, serves: true, standsForRouter: true });

const verdict = (frame: Uint8Array, filter = strict, checksumStart?: number) =>
  filter.verdict(frame.subarray(0, FILTER_BYTES), frame.length, checksumStart);

const udp4 = (source: string, target: string, ports: [number, number]) =>
  guestUdp(ipv4Bytes(source), ipv4Bytes(target), ports, new Uint8Array(20));
const udp6 = (source: Uint8Array, target: string, ports: [number, number]) =>
  guestUdp(source, ipv6Bytes(target), ports, new Uint8Array(20));
const icmp6 = (source: Uint8Array, target: Uint8Array, ...message: readonly Uint8Array[]) =>
  icmpv6Frame({ sourceMac: macOfGuest, targetMac: OTHER_MAC, source, target }, Buffer.concat(message));
const solicitation = (source: Uint8Array, target: Uint8Array) =>
  icmp6(source, allRouters, Uint8Array.of(135, 0, 0, 0, 0, 0, 0, 0), target);
const advertisement = (source: Uint8Array, target: Uint8Array) =>
  icmp6(source, allRouters, Uint8Array.of(136, 0, 0, 0, 0x20, 0, 0, 0), target);

function arp(senderMac: Uint8Array, sender: string, target: string): Uint8Array {
  const kind = Uint8Array.of(8, 6, 0, 1, 8, 0, 6, 4, 0, 1);
  return Buffer.concat([
    ...[new Uint8Array(6).fill(0xff), macOfGuest, kind],
    ...[senderMac, ipv4Bytes(sender), new Uint8Array(6), ipv4Bytes(target)],
  ]);
}

/** The same packet with one more header of kind `code` in front of what it carries. */
function behind(code: number, frame: Uint8Array, header = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0)): Uint8Array {
  const bytes = Buffer.concat([frame.subarray(0, 54), header, frame.subarray(54)]);
  bytes[54] = frame[20] ?? 0;
  bytes[20] = code;
  return bytes;
}

function changed(frame: Uint8Array, at: number, ...bytes: readonly number[]): Uint8Array {
  const copy = Uint8Array.from(frame);
  copy.set(bytes, at);
  return copy;
}

describe("a guest in its own name", () => {
  it.each([
    ["IPv4", udp4("10.0.2.2", "192.0.2.1", [1024, 53])],
    ["IPv6", udp6(own6, "2001:db8::1", [1024, 53])],
    ["IPv6 from its link-local address", udp6(linkLocal, "ff02::fb", [5353, 5353])],
    ["ARP", arp(macOfGuest, "10.0.2.2", "10.0.2.1")],
    ["a probe for its own address", arp(macOfGuest, "0.0.0.0", "10.0.2.2")],
    ["a solicitation of a neighbour", solicitation(own6, ipv6Bytes("fd10:0:2::1"))],
    ["a test whether its address is free", solicitation(anyone, own6)],
    ["a test whether its link-local address is free", solicitation(anyone, linkLocal)],
    ["an advertisement of itself", advertisement(linkLocal, own6)],
    ["a report of groups", behind(0, icmp6(anyone, ipv6Bytes("ff02::16"), Uint8Array.of(143, 0, 0, 0)))],
    ["an echo request", icmp6(own6, ipv6Bytes("2001:db8::1"), Uint8Array.of(128, 0, 0, 0, 0, 0, 0, 0))],
    ["a later fragment", behind(44, udp6(own6, "2001:db8::1", [9, 547]), Uint8Array.of(0, 0, 0x10, 0, 0, 0, 0, 1))],
  ])("may send %s", (_what, frame) => {
    expect(verdict(frame)).toBe("pass");
  });

  it.each([
    ["DHCP without an address", udp4("0.0.0.0", "255.255.255.255", [68, 67])],
    ["DHCP with one", udp4("10.0.2.2", "10.0.2.1", [68, 67])],
    ["DHCPv6", udp6(linkLocal, "ff02::1:2", [546, 547])],
    ["a router solicitation", icmp6(linkLocal, allRouters, Uint8Array.of(133, 0, 0, 0, 0, 0, 0, 0))],
    ["a router solicitation without an address", icmp6(anyone, allRouters, Uint8Array.of(133, 0, 0, 0, 0, 0, 0, 0))],
    ["a solicitation of the router", solicitation(linkLocal, router)],
  ])("is served: %s", (_what, frame) => {
    expect(verdict(frame)).toBe("serve");
  });
});

describe("a guest in another's name", () => {
  it.each([
    ["another MAC", changed(udp4("10.0.2.2", "192.0.2.1", [1, 2]), 6, ...OTHER_MAC)],
    ["another IPv4 address", udp4("10.0.2.3", "192.0.2.1", [1, 2])],
    ["no IPv4 address", udp4("0.0.0.0", "192.0.2.1", [1, 2])],
    ["another IPv6 address", udp6(ipv6Bytes("fd10:0:2::3"), "2001:db8::1", [1, 2])],
    ["no IPv6 address", udp6(anyone, "2001:db8::1", [1, 2])],
    ["the router's address", udp6(router, "ff02::1", [1, 2])],
    ["ARP with another MAC", arp(OTHER_MAC, "10.0.2.2", "10.0.2.1")],
    ["ARP with another address", arp(macOfGuest, "10.0.2.1", "10.0.2.1")],
    ["a probe for another's address", arp(macOfGuest, "0.0.0.0", "10.0.2.1")],
    ["ARP of another kind", changed(arp(macOfGuest, "10.0.2.2", "10.0.2.1"), 14, 0, 6)],
    ["a test for another's address", solicitation(anyone, ipv6Bytes("fd10:0:2::1"))],
    ["a test for the router's address", solicitation(anyone, router)],
    ["an advertisement of another", advertisement(own6, ipv6Bytes("fd10:0:2::1"))],
    ["an advertisement of the router", advertisement(linkLocal, router)],
    ["a router advertisement", icmp6(linkLocal, allRouters, Uint8Array.of(134, 0, 0, 0, 0, 0, 0, 0))],
    ["a redirect", icmp6(linkLocal, allRouters, Uint8Array.of(137, 0, 0, 0, 0, 0, 0, 0))],
    ["an answer of DHCP", udp4("10.0.2.2", "255.255.255.255", [67, 68])],
    ["an answer of DHCPv6", udp6(linkLocal, "ff02::1", [547, 546])],
  ])("is stopped: %s", (_what, frame) => {
    expect(verdict(frame)).toBe("drop");
  });

  const hidden = icmp6(linkLocal, allRouters, Uint8Array.of(134, 0, 0, 0, 0, 0, 0, 0));
  it.each([
    ["behind options for each hop", behind(0, hidden)],
    ["behind options for the destination", behind(60, hidden)],
    ["behind a route", behind(43, hidden)],
    ["behind two headers", behind(0, behind(60, hidden))],
    ["in a first fragment", behind(44, hidden, Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 1))],
    [
      "behind more headers than are looked through",
      behind(60, hidden, Uint8Array.of(0, 15, ...new Array(126).fill(0))),
    ],
  ])("cannot hide a router advertisement %s", (_how, frame) => {
    expect(verdict(frame)).toBe("drop");
  });

  it("cannot hide the sender of UDP beyond what is looked at", () => {
    const frame = behind(60, udp6(own6, "2001:db8::1", [547, 546]), Uint8Array.of(0, 15, ...new Array(126).fill(0)));
    expect(verdict(frame)).toBe("drop");
  });
});

describe("a frame filter", () => {
  it.each([
    ["another protocol", changed(udp4("10.0.2.2", "192.0.2.1", [1, 2]), 12, 0x88, 0xcc)],
    ["a VLAN", changed(udp4("10.0.2.2", "192.0.2.1", [1, 2]), 12, 0x81, 0x00)],
    ["IPv4 that is none", changed(udp4("10.0.2.2", "192.0.2.1", [1, 2]), 14, 0x65)],
    ["IPv4 with a short header", changed(udp4("10.0.2.2", "192.0.2.1", [1, 2]), 14, 0x44)],
    ["IPv6 that is none", changed(udp6(own6, "2001:db8::1", [1, 2]), 14, 0x40)],
  ])("stops %s", (_what, frame) => {
    expect(verdict(frame)).toBe("drop");
  });

  it("stops whatever ends before its headers do", () => {
    const frames = [
      udp4("10.0.2.2", "1.1.1.1", [1, 2]),
      udp6(own6, "2001:db8::1", [1, 2]),
      arp(macOfGuest, "10.0.2.2", "10.0.2.1"),
    ];
    const ends = [42, 62, 42];
    frames.forEach((frame, i) => {
      for (let length = 0; length < (ends[i] ?? 0); length++)
        expect([length, verdict(frame.subarray(0, length))]).toEqual([length, "drop"]);
      expect(verdict(frame.subarray(0, ends[i]))).toBe("pass");
    });
  });

  it("lets the kernel sum from the transport header on, and not before", () => {
    const ip4 = udp4("10.0.2.2", "192.0.2.1", [1, 2]);
    expect([33, 34, 40].map((start) => verdict(ip4, strict, start))).toEqual(["drop", "pass", "pass"]);
    const ip6 = udp6(own6, "2001:db8::1", [1, 2]);
    expect([53, 54].map((start) => verdict(ip6, strict, start))).toEqual(["drop", "pass"]);
    expect(verdict(arp(macOfGuest, "10.0.2.2", "10.0.2.1"), strict, 40)).toBe("drop");
  });

  it("stops a family that the guest does not have", () => {
    const only6 = new FrameFilter(
      { mac: macOfGuest, ipv6: own6 },
      { drops: true, serves: true, standsForRouter: false },
    );
    expect(verdict(udp4("10.0.2.2", "192.0.2.1", [1, 2]), only6)).toBe("drop");
    expect(verdict(arp(macOfGuest, "10.0.2.2", "10.0.2.1"), only6)).toBe("drop");
  });

  it("that does not stop anything still picks out what is served", () => {
    const open = new FrameFilter(identity, { drops: false, serves: true, standsForRouter: false });
    expect(verdict(udp4("192.168.1.1", "192.0.2.1", [1, 2]), open)).toBe("pass");
    expect(verdict(udp4("0.0.0.0", "255.255.255.255", [68, 67]), open)).toBe("serve");
    expect(verdict(solicitation(linkLocal, router), open)).toBe("pass");
  });

  it("never lets a frame pass whose sender is not the guest, whatever its bytes", () => {
    const bases = [udp4("10.0.2.2", "1.1.1.1", [1, 2]), udp6(own6, "2001:db8::1", [1, 2]), solicitation(own6, own6)];
    const changes = fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 8 });
    fc.assert(
      fc.property(fc.constantFrom(...bases), changes, fc.nat(90), (base, spots, length) => {
        const frame = Uint8Array.from(base);
        for (const [at, byte] of spots) if (at < frame.length) frame[at] = byte;
        const cut = frame.subarray(0, length);
        if (verdict(cut) !== "pass") return;
        const isIpv4 = cut[12] === 8 && cut[13] === 0;
        const source = isIpv4 ? cut.slice(26, 30) : cut.slice(22, 38);
        const isOwn = [own4, own6, anyone].some((own) => Buffer.compare(own, source) === 0) || source[0] === 0xfe;
        expect([cut.slice(6, 12), isOwn || cut[13] === 6]).toEqual([macOfGuest, true]);
      }),
      { numRuns: 2000 },
    );
  });
});
