import type { GuestAddresses } from "../../../api/agent.ts";
import { udpFrame } from "../build-frame.ts";
import { type GuestNetwork, guestNetwork } from "../guest-network.ts";
import type { Resolver } from "../resolver.ts";

export const MAC = "02:5a:00:12:34:56";
export const macOfGuest = Uint8Array.of(2, 0x5a, 0, 0x12, 0x34, 0x56);

export const masquerade: GuestAddresses = {
  ipv4: { address: "10.0.2.2", prefixLength: 24, gateway: "10.0.2.1" },
  ipv6: { address: "fd10:0:2::2", prefixLength: 120, gateway: "fd10:0:2::1", gatewayMac: "02:00:00:00:00:01" },
};

const resolver: Resolver = {
  nameservers: ["10.96.0.10", "fd00:10:96::a"],
  searchDomains: ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"],
};

export function network(addresses: GuestAddresses = masquerade, parts: Partial<Resolver> = {}): GuestNetwork {
  const dhcp = { hostname: "web", ntpServers: ["192.0.2.123", "2001:db8::123"] };
  return guestNetwork({ mac: MAC, mtuBytes: 1450, addresses, dhcp, resolver: { ...resolver, ...parts } });
}

export interface DhcpOptions {
  readonly type: number;
  readonly mac?: Uint8Array;
  readonly clientAddress?: readonly number[];
  readonly options?: readonly (readonly [code: number, ...value: number[]])[];
}

export const XID = Uint8Array.of(0xde, 0xad, 0xbe, 0xef);

/** A DHCP message of the guest, without headers. */
export function dhcpMessage({ type, mac = macOfGuest, clientAddress = [0, 0, 0, 0], options = [] }: DhcpOptions) {
  const head = new Uint8Array(240);
  head.set([1, 1, 6, 0]);
  head.set(XID, 4);
  head.set([0x80, 0], 10);
  head.set(clientAddress, 12);
  head.set(mac, 28);
  head.set([99, 130, 83, 99], 236);
  const encoded = [[53, type], ...options].map(([code = 0, ...value]) => Uint8Array.of(code, value.length, ...value));
  return Buffer.concat([head, ...encoded, Uint8Array.of(255)]);
}

/** An option of a DHCPv6 message of the guest. */
export function dhcp6Option(code: number, ...values: readonly Uint8Array[]): Uint8Array {
  const value = Buffer.concat(values);
  return Buffer.concat([Uint8Array.of(0, code, value.length >>> 8, value.length & 0xff), value]);
}

/** The options of a DHCP message, by code. */
export function dhcpOptionsOf(message: Uint8Array): Map<number, number[]> {
  const options = new Map<number, number[]>();
  for (let at = 240; at < message.length && message[at] !== 255; ) {
    if (message[at] === 0) {
      at++;
      continue;
    }
    const [code = 0, length = 0] = message.subarray(at, at + 2);
    options.set(code, [...(options.get(code) ?? []), ...message.subarray(at + 2, at + 2 + length)]);
    at += 2 + length;
  }
  return options;
}

/** A frame of the guest with a UDP datagram. */
export function guestUdp(source: Uint8Array, target: Uint8Array, ports: [number, number], payload: Uint8Array) {
  const ends = { sourceMac: macOfGuest, targetMac: new Uint8Array(6).fill(0xff), source, target };
  return udpFrame(ends, { source: ports[0], target: ports[1] }, payload);
}
