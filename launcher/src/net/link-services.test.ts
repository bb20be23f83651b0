import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { ipv4Bytes, ipv6Bytes } from "./addresses.ts";
import { checksum, icmpv6Frame } from "./build-frame.ts";
import { dhcpTypes } from "./dhcp4.ts";
import { LinkServices } from "./link-services.ts";
import { dhcpMessage, guestUdp, macOfGuest, masquerade, network } from "./testing/guest.ts";

const GATEWAY_MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const linkLocal = ipv6Bytes("fe80::5a:12:3456");
const router = ipv6Bytes("fe80::1");
const services = new LinkServices(network());

function icmp6(...message: readonly Uint8Array[]): Uint8Array {
  const ends = { sourceMac: macOfGuest, targetMac: GATEWAY_MAC, source: linkLocal, target: ipv6Bytes("ff02::2") };
  return icmpv6Frame(ends, Buffer.concat(message));
}

const solicitRouter = icmp6(Uint8Array.of(133, 0, 0, 0, 0, 0, 0, 0));

/** Options of a router advertisement by type; the last one of each. */
function optionsOf(frame: Uint8Array): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at = 70; at < frame.length; at += (frame[at + 1] ?? 0) * 8)
    options.set(frame[at] ?? 0, frame.slice(at + 2, at + (frame[at + 1] ?? 0) * 8));
  return options;
}

/** Whether the sum over pseudo header and payload is what it has to be: all ones. */
function isSummed(frame: Uint8Array): boolean {
  const isIpv6 = frame[12] === 0x86;
  const payload = frame.subarray(isIpv6 ? 54 : 34);
  const addresses = isIpv6 ? frame.slice(22, 54) : frame.slice(26, 34);
  const protocol = isIpv6 ? frame[20] : frame[23];
  return (
    checksum(addresses, Uint8Array.of(payload.length >>> 8, payload.length & 0xff, 0, protocol ?? 0), payload) === 0
  );
}

describe("a guest's network services", () => {
  it("answer DHCP to all while the guest has no address, and to it once it has", () => {
    const any = ipv4Bytes("0.0.0.0");
    const discover = guestUdp(any, ipv4Bytes("255.255.255.255"), [68, 67], dhcpMessage({ type: dhcpTypes.discover }));
    const offer = services.answer(discover) ?? new Uint8Array(0);
    expect(offer.slice(0, 12)).toEqual(Buffer.concat([new Uint8Array(6).fill(0xff), GATEWAY_MAC]));
    expect([...offer.slice(26, 34)]).toEqual([10, 0, 2, 1, 255, 255, 255, 255]);
    expect([...offer.slice(34, 38)]).toEqual([0, 67, 0, 68]);
    expect([checksum(offer.subarray(14, 34)), isSummed(offer)]).toEqual([0, true]);
    const renew = dhcpMessage({ type: dhcpTypes.request, clientAddress: [10, 0, 2, 2] });
    const ack = services.answer(guestUdp(ipv4Bytes("10.0.2.2"), ipv4Bytes("10.0.2.1"), [68, 67], renew));
    expect(ack?.slice(0, 6)).toEqual(macOfGuest);
    expect([...(ack?.slice(30, 34) ?? [])]).toEqual([10, 0, 2, 2]);
  });

  it("answer router solicitations: a default route, the link's MTU, DNS; addresses by DHCPv6", () => {
    const frame = services.answer(solicitRouter) ?? new Uint8Array(0);
    expect(frame.slice(22, 38)).toEqual(router);
    expect([frame[54], frame[21], isSummed(frame)]).toEqual([134, 255, true]);
    expect([frame[59], Buffer.from(frame).readUInt16BE(60)]).toEqual([0xc0, 9000]);
    const options = optionsOf(frame);
    expect(options.get(1)).toEqual(GATEWAY_MAC);
    expect(Buffer.from(options.get(5) ?? []).readUInt32BE(2)).toBe(1450);
    expect([...(options.get(3)?.slice(0, 2) ?? [])]).toEqual([120, 0x80]);
    expect(options.get(3)?.slice(14)).toEqual(ipv6Bytes("fd10:0:2::"));
    expect(options.get(25)?.slice(6)).toEqual(ipv6Bytes("fd00:10:96::a"));
    expect(Buffer.from(options.get(31) ?? []).toString()).toContain("cluster");
  });

  it("advertise no default route where there is no gateway, and no prefix to a guest that is alone on its link", () => {
    const alone = new LinkServices(network({ ipv6: { address: "2001:db8::7", prefixLength: 128 } }));
    const frame = alone.advertisement() ?? new Uint8Array(0);
    expect(Buffer.from(frame).readUInt16BE(60)).toBe(0);
    expect(optionsOf(frame).has(3)).toBe(false);
  });

  it("advertise routes beside the default one", () => {
    const routes = [{ destination: "2001:db8:77::/56", gateway: "fe80::9" }];
    const ipv6 = { address: "2001:db8::7", prefixLength: 64, gateway: "fe80::9", routes };
    const option = optionsOf(new LinkServices(network({ ipv6 })).advertisement() ?? new Uint8Array(0)).get(24);
    expect([option?.[0], option?.slice(6)]).toEqual([56, ipv6Bytes("2001:db8:77::")]);
  });

  it("answer for a router that they made up, and for no other", () => {
    const target = (address: Uint8Array) => icmp6(Uint8Array.of(135, 0, 0, 0, 0, 0, 0, 0), address);
    const answer = services.answer(target(router)) ?? new Uint8Array(0);
    expect([answer[54], isSummed(answer)]).toEqual([136, true]);
    expect(answer.slice(38, 54)).toEqual(linkLocal);
    expect(answer.slice(62, 86)).toEqual(new Uint8Array(Buffer.concat([router, Uint8Array.of(2, 1), GATEWAY_MAC])));
    const real = { ipv6: { address: "2001:db8::7", prefixLength: 64, gateway: "fe80::9" } };
    expect(new LinkServices(network(real)).answer(target(ipv6Bytes("fe80::9")))).toBeNull();
  });

  it("answer DHCPv6 to who asked", () => {
    const solicit = Uint8Array.of(1, 1, 2, 3, 0, 1, 0, 4, 0, 3, 0, 1, 0, 3, 0, 12, 0, 0, 0, 1, ...new Array(8).fill(0));
    const answer = services.answer(guestUdp(linkLocal, ipv6Bytes("ff02::1:2"), [546, 547], solicit));
    expect([answer?.[62], answer && isSummed(answer)]).toEqual([2, true]);
    expect(answer?.slice(38, 54)).toEqual(linkLocal);
  });

  it("say nothing of a family that the guest does not have", () => {
    const only4 = new LinkServices(network({ ipv4: masquerade.ipv4 ?? { address: "", prefixLength: 0 } }));
    expect(only4.answer(solicitRouter)).toBeNull();
    expect(only4.advertisement()).toBeNull();
  });

  it("survive any frame", () => {
    const discover = dhcpMessage({ type: dhcpTypes.discover });
    const bases = [solicitRouter, guestUdp(ipv4Bytes("0.0.0.0"), ipv4Bytes("1.1.1.1"), [68, 67], discover)];
    const changes = fc.array(fc.tuple(fc.nat(330), fc.nat(255)), { maxLength: 10 });
    fc.assert(
      fc.property(fc.constantFrom(...bases), changes, fc.nat(330), (base, spots, length) => {
        const frame = Uint8Array.from(base);
        for (const [at, byte] of spots) if (at < frame.length) frame[at] = byte;
        const answer = services.answer(frame.subarray(0, length));
        if (answer) expect(answer.length).toBeLessThanOrEqual(1514);
      }),
    );
  });
});
