import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { Dhcp4Server, dhcpTypes } from "./dhcp4.ts";
import { dhcpMessage, dhcpOptionsOf, masquerade, network, XID } from "./testing/guest.ts";

function server(guest = network()) {
  if (!guest.ipv4) throw new Error("no IPv4");
  return new Dhcp4Server(guest, guest.ipv4);
}

const text = (bytes: readonly number[] | undefined) => Buffer.from(bytes ?? []).toString();
const u32 = (bytes: readonly number[] | undefined) => Buffer.from(bytes ?? []).readUInt32BE();
const names = (bytes: readonly number[] | undefined) =>
  text(bytes?.map((byte) => (byte > 0 && byte < 32 ? 0x2e : byte)));
const GUEST = [10, 0, 2, 2];
const GATEWAY = [10, 0, 2, 1];

describe("a DHCPv4 server", () => {
  it("offers the guest its address, and all that its network is", () => {
    const answer = server().answer(dhcpMessage({ type: dhcpTypes.discover }));
    expect(answer?.[0]).toBe(2);
    expect(answer?.slice(4, 8)).toEqual(Buffer.from(XID));
    expect([...(answer?.slice(16, 20) ?? [])]).toEqual(GUEST);
    const options = dhcpOptionsOf(answer ?? new Uint8Array(0));
    expect(options.get(53)).toEqual([dhcpTypes.offer]);
    expect(options.get(54)).toEqual(GATEWAY);
    expect(options.get(1)).toEqual([255, 255, 255, 0]);
    expect(options.get(3)).toEqual(GATEWAY);
    expect(options.get(6)).toEqual([10, 96, 0, 10]);
    expect(options.get(26)).toEqual([1450 >>> 8, 1450 & 0xff]);
    expect(options.get(28)).toEqual([10, 0, 2, 255]);
    expect(options.get(42)).toEqual([192, 0, 2, 123]);
    expect(text(options.get(12))).toBe("web");
    expect(text(options.get(15))).toBe("default.svc.cluster.local");
    expect(names(options.get(119))).toBe(".default.svc.cluster.local\0.svc.cluster.local\0.cluster.local\0");
    expect(options.has(121)).toBe(false);
  });

  it("acknowledges what it offered, for a day, to be renewed after half of it", () => {
    const request = { type: dhcpTypes.request, options: [[54, ...GATEWAY] as const, [50, ...GUEST] as const] };
    const options = dhcpOptionsOf(server().answer(dhcpMessage(request)) ?? new Uint8Array(0));
    expect(options.get(53)).toEqual([dhcpTypes.ack]);
    expect([51, 58, 59].map((code) => u32(options.get(code)))).toEqual([86_400, 43_200, 75_600]);
  });

  it("renews and rebinds: the same day again, however often and late", () => {
    const dhcp = server();
    for (let i = 0; i < 3; i++) {
      const answer = dhcp.answer(dhcpMessage({ type: dhcpTypes.request, clientAddress: GUEST })) ?? new Uint8Array(0);
      expect(dhcpOptionsOf(answer).get(53)).toEqual([dhcpTypes.ack]);
      expect(u32(dhcpOptionsOf(answer).get(51))).toBe(86_400);
      expect([...answer.slice(12, 16)]).toEqual(GUEST);
    }
  });

  it("denies a guest an address of another network, so that it asks anew", () => {
    const request = { type: dhcpTypes.request, options: [[50, 192, 168, 1, 7] as const] };
    const answer = server().answer(dhcpMessage(request)) ?? new Uint8Array(0);
    expect([...dhcpOptionsOf(answer).keys()]).toEqual([53, 54]);
    expect(dhcpOptionsOf(answer).get(53)).toEqual([dhcpTypes.nak]);
    expect([...answer.slice(16, 20)]).toEqual([0, 0, 0, 0]);
  });

  it("says nothing to a guest that chose another server", () => {
    const request = { type: dhcpTypes.request, options: [[54, 10, 9, 9, 9] as const, [50, ...GUEST] as const] };
    expect(server().answer(dhcpMessage(request))).toBeNull();
  });

  it("informs a guest with an address of its own, without a lease", () => {
    const answer = server().answer(dhcpMessage({ type: dhcpTypes.inform, clientAddress: GUEST })) ?? new Uint8Array(0);
    expect([...answer.slice(16, 20)]).toEqual([0, 0, 0, 0]);
    expect(dhcpOptionsOf(answer).has(51)).toBe(false);
    expect(dhcpOptionsOf(answer).get(6)).toEqual([10, 96, 0, 10]);
  });

  it.each([
    ["of another client", dhcpMessage({ type: dhcpTypes.discover, mac: new Uint8Array(6) })],
    ["that gives up its lease", dhcpMessage({ type: dhcpTypes.release, clientAddress: GUEST })],
    ["that declines it", dhcpMessage({ type: dhcpTypes.decline })],
    ["without a type", dhcpMessage({ type: 1 }).fill(0, 240)],
    ["without the magic cookie", dhcpMessage({ type: 1 }).fill(0, 236, 240)],
    ["of a server", dhcpMessage({ type: 1 }).fill(2, 0, 1)],
    [
      "with an option that does not end",
      Buffer.concat([dhcpMessage({ type: 1 }).subarray(0, -1), Uint8Array.of(50, 99)]),
    ],
  ])("does not answer a message %s", (_what, message) => {
    expect(server().answer(message)).toBeNull();
  });

  it("gives a guest that is alone in its network a way to a gateway beyond it", () => {
    const alone = { ipv4: { address: "10.244.1.7", prefixLength: 32, gateway: "169.254.1.1" } };
    const answer = server(network(alone)).answer(dhcpMessage({ type: dhcpTypes.discover })) ?? new Uint8Array(0);
    const options = dhcpOptionsOf(answer);
    expect(options.get(1)).toEqual([255, 255, 255, 255]);
    expect(options.get(121)).toEqual([32, 169, 254, 1, 1, 0, 0, 0, 0, 0, 169, 254, 1, 1]);
    expect(options.has(28)).toBe(false);
  });

  it("gives routes with the default one among them, since who takes these takes no other", () => {
    const routes = [{ destination: "172.16.0.0/12", gateway: "10.0.2.9" }, { destination: "192.168.7.0/24" }];
    const guest = network({ ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1", routes } });
    const options = dhcpOptionsOf(server(guest).answer(dhcpMessage({ type: dhcpTypes.discover })) ?? new Uint8Array(0));
    expect(options.get(121)).toEqual([
      ...[12, 172, 16, 10, 0, 2, 9],
      ...[24, 192, 168, 7, 0, 0, 0, 0],
      ...[0, 10, 0, 2, 1],
    ]);
  });

  it("gives a client back its identifier, and no message longer than it takes", () => {
    const searchDomains = Array.from({ length: 30 }, (_, i) => `namespace-${i}.svc.cluster.local`);
    const guest = network(masquerade, { searchDomains });
    const identifier = [61, 255, 1, 2, 3] as const;
    const short = server(guest).answer(dhcpMessage({ type: dhcpTypes.discover, options: [identifier] }));
    expect(short?.length).toBeLessThanOrEqual(548);
    expect(dhcpOptionsOf(short ?? new Uint8Array(0)).get(61)).toEqual([255, 1, 2, 3]);
    expect(dhcpOptionsOf(short ?? new Uint8Array(0)).has(119)).toBe(false);
    const long = server(guest).answer(dhcpMessage({ type: dhcpTypes.discover, options: [[57, 5, 0xdc]] }));
    expect(names(dhcpOptionsOf(long ?? new Uint8Array(0)).get(119)).split("\0")).toHaveLength(31);
    expect(long?.length).toBeLessThanOrEqual(1472);
  });

  it("survives any bytes, and answers none that are not for it", () => {
    const dhcp = server();
    const base = dhcpMessage({
      type: dhcpTypes.request,
      options: [
        [50, ...GUEST],
        [57, 2, 0x40],
      ],
    });
    const changes = fc.array(fc.tuple(fc.nat(base.length + 40), fc.nat(255)), { maxLength: 20 });
    fc.assert(
      fc.property(changes, fc.nat(base.length), (spots, length) => {
        const message = Buffer.concat([base.subarray(0, length), Buffer.alloc(40)]);
        for (const [at, byte] of spots) if (at < message.length) message[at] = byte;
        const answer = dhcp.answer(message);
        if (answer) expect([answer[0], answer.length <= 1472]).toEqual([2, true]);
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => dhcp.answer(bytes) === null));
  });
});
