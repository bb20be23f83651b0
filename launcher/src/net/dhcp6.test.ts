import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { ipv6Bytes } from "./addresses.ts";
import { Dhcp6Server, dhcp6Types, parseDhcp6, parseOptions } from "./dhcp6.ts";
import { network, dhcp6Option as option } from "./testing/guest.ts";

const TRANSACTION = Uint8Array.of(1, 2, 3);
const CLIENT = Uint8Array.of(0, 1, 0, 1, 9, 9, 9, 9, 2, 0x5a, 0, 0x12, 0x34, 0x56);
const ADDRESS = ipv6Bytes("fd10:0:2::2");

function server() {
  const guest = network();
  if (!guest.ipv6) throw new Error("no IPv6");
  return new Dhcp6Server(guest, guest.ipv6);
}

function message(type: number, ...options: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([Uint8Array.of(type), TRANSACTION, ...options]);
}

const client = option(1, CLIENT);
const address = (bytes: Uint8Array) => option(5, bytes, new Uint8Array(8));
const association = (...within: readonly Uint8Array[]) =>
  option(3, Uint8Array.of(0, 0, 0, 7), new Uint8Array(8), ...within);

/** The answer's type, and its options by code. */
function read(answer: Uint8Array | null) {
  const parsed = answer && parseDhcp6(answer);
  if (!parsed) throw new Error("no answer");
  expect(parsed.transaction).toEqual(TRANSACTION);
  return { type: parsed.type, options: new Map(parsed.options.map(({ code, value }) => [code, value])) };
}

/** Addresses of the answer's association, with their valid lifetimes. */
function addressesIn(options: ReadonlyMap<number, Uint8Array>): [Uint8Array, number][] {
  const value = options.get(3) ?? new Uint8Array(12);
  return (parseOptions(value.subarray(12)) ?? [])
    .filter(({ code }) => code === 5)
    .map(({ value: found }) => [found.slice(0, 16), Buffer.from(found).readUInt32BE(20)]);
}

const identifier = read(server().answer(message(dhcp6Types.solicit, client, association()))).options.get(2);
const toUs = option(2, identifier ?? new Uint8Array(0));

describe("a DHCPv6 server", () => {
  it("advertises the guest's address, DNS, search domains and NTP", () => {
    const { type, options } = read(server().answer(message(dhcp6Types.solicit, client, association())));
    expect(type).toBe(dhcp6Types.advertise);
    expect(options.get(1)).toEqual(CLIENT);
    expect(addressesIn(options)).toEqual([[ADDRESS, 86_400]]);
    expect(options.get(3)?.slice(0, 4)).toEqual(Uint8Array.of(0, 0, 0, 7));
    expect(options.get(23)).toEqual(ipv6Bytes("fd00:10:96::a"));
    expect(Buffer.from(options.get(24) ?? []).toString()).toContain("cluster");
    expect(options.get(56)?.slice(4)).toEqual(ipv6Bytes("2001:db8::123"));
  });

  it("answers at once where the guest wants it so", () => {
    const { type, options } = read(server().answer(message(dhcp6Types.solicit, client, option(14), association())));
    expect([type, options.has(14)]).toEqual([dhcp6Types.reply, true]);
  });

  it.each(["request", "renew", "rebind"] as const)("gives the address on %s, and takes others back", (name) => {
    const foreign = ipv6Bytes("fd99::1");
    const parts = [client, ...(name === "rebind" ? [] : [toUs]), association(address(ADDRESS), address(foreign))];
    const { type, options } = read(server().answer(message(dhcp6Types[name], ...parts)));
    expect(type).toBe(dhcp6Types.reply);
    expect(addressesIn(options)).toEqual([
      [ADDRESS, 86_400],
      [foreign, 0],
    ]);
  });

  it("confirms its own address, and no other", () => {
    const status = (bytes: Uint8Array) =>
      read(server().answer(message(dhcp6Types.confirm, client, association(address(bytes))))).options.get(13);
    expect(status(ADDRESS)).toEqual(Uint8Array.of(0, 0));
    expect(status(ipv6Bytes("fd99::1"))).toEqual(Uint8Array.of(0, 4));
  });

  it("has no temporary addresses and no prefixes to give", () => {
    const temporary = option(4, Uint8Array.of(0, 0, 0, 1));
    const prefix = option(25, Uint8Array.of(0, 0, 0, 2), new Uint8Array(8));
    const { options } = read(server().answer(message(dhcp6Types.solicit, client, temporary, prefix)));
    expect(options.get(4)).toEqual(Uint8Array.of(0, 0, 0, 1, 0, 13, 0, 2, 0, 2));
    expect(options.get(25)?.slice(-2)).toEqual(Uint8Array.of(0, 6));
  });

  it("tells a guest with an address of its own the rest", () => {
    const { options } = read(server().answer(message(dhcp6Types.informationRequest)));
    expect([options.has(23), options.has(3)]).toEqual([true, false]);
  });

  it.each([
    ["that solicits without saying who it is", message(dhcp6Types.solicit, association())],
    ["that solicits one server", message(dhcp6Types.solicit, client, toUs)],
    ["that is for another server", message(dhcp6Types.request, client, option(2, Uint8Array.of(9)), association())],
    ["that confirms nothing", message(dhcp6Types.confirm, client)],
    ["of a server", message(dhcp6Types.advertise, client, toUs)],
    ["that is too short", Uint8Array.of(1, 2)],
    ["with an option that does not end", message(dhcp6Types.solicit, client, Uint8Array.of(0, 3, 0, 40))],
    ["with too many options", message(dhcp6Types.solicit, client, ...new Array(64).fill(option(99)))],
  ])("does not answer a message %s", (_what, bytes) => {
    expect(server().answer(bytes)).toBeNull();
  });

  it("survives any bytes", () => {
    const dhcp = server();
    const base = message(dhcp6Types.request, client, toUs, association(address(ADDRESS)));
    const changes = fc.array(fc.tuple(fc.nat(base.length - 1), fc.nat(255)), { maxLength: 10 });
    fc.assert(
      fc.property(changes, fc.nat(base.length), (spots, length) => {
        const bytes = Uint8Array.from(base);
        for (const [at, byte] of spots) bytes[at] = byte;
        const answer = dhcp.answer(bytes.subarray(0, length));
        if (answer) expect(parseDhcp6(answer)).not.toBeNull();
      }),
    );
  });
});
