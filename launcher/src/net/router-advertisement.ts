import { encodeDomainNames } from "./domain-names.ts";
import type { GuestNetwork, Route } from "./guest-network.ts";
import { ND_NEIGHBOR_ADVERTISEMENT, ND_ROUTER_ADVERTISEMENT } from "./protocols.ts";

/** How long the guest believes it; told again several times meanwhile. */
export const ROUTER_LIFETIME_SECONDS = 9000;
const HOP_LIMIT = 64;
/** RFC 4861, section 4.2: addresses and other configuration by DHCPv6. */
const MANAGED_AND_OTHER = 0xc0;
const PREFIX_ON_LINK = 0x80;
const NA_ROUTER_SOLICITED_OVERRIDE = 0xe0;

// RFC 4861, section 4.6, RFC 4191 (routes) and RFC 8106 (DNS).
const Option = {
  sourceLinkAddress: 1,
  targetLinkAddress: 2,
  prefix: 3,
  mtu: 5,
  route: 24,
  dns: 25,
  search: 31,
} as const;

type Ipv6 = NonNullable<GuestNetwork["ipv6"]>;

/** An ICMPv6 router advertisement, its checksum still zero. Without a gateway the lifetime is 0: no default route. */
export function routerAdvertisement(guest: GuestNetwork, network: Ipv6): Uint8Array {
  const head = new DataView(new ArrayBuffer(16));
  head.setUint8(0, ND_ROUTER_ADVERTISEMENT);
  head.setUint8(4, HOP_LIMIT);
  head.setUint8(5, MANAGED_AND_OTHER);
  head.setUint16(6, network.gateway ? ROUTER_LIFETIME_SECONDS : 0);
  const { router, dnsServers, routes, prefixLength } = network;
  return Buffer.concat([
    new Uint8Array(head.buffer),
    ...(router?.mac ? [option(Option.sourceLinkAddress, router.mac)] : []),
    option(Option.mtu, Buffer.concat([new Uint8Array(2), u32(guest.mtuBytes)])),
    // A guest alone on its link has no neighbours.
    ...(prefixLength < 128 ? [prefixOption(network)] : []),
    ...routes.map(routeOption),
    ...(dnsServers.length > 0 ? [lifetimeOption(Option.dns, Buffer.concat(dnsServers))] : []),
    ...(guest.searchDomains.length > 0 ? [lifetimeOption(Option.search, encodeDomainNames(guest.searchDomains))] : []),
  ]);
}

/** An ICMPv6 neighbour advertisement for the router `target` at `mac`, its checksum still zero. */
export function neighbourAdvertisement(target: Uint8Array, mac: Uint8Array): Uint8Array {
  const head = Uint8Array.of(ND_NEIGHBOR_ADVERTISEMENT, 0, 0, 0, NA_ROUTER_SOLICITED_OVERRIDE, 0, 0, 0);
  return Buffer.concat([head, target, option(Option.targetLinkAddress, mac)]);
}

/** On the link, and not for making addresses from: those come by DHCPv6. */
function prefixOption({ address, prefixLength }: Ipv6): Uint8Array {
  const lifetime = u32(0xffffffff);
  const prefix = networkOf(address, prefixLength);
  const flags = Uint8Array.of(prefixLength, PREFIX_ON_LINK);
  return option(Option.prefix, Buffer.concat([flags, lifetime, lifetime, u32(0), prefix]));
}

/** RFC 4191, section 2.3: through this router, whatever gateway the route has. */
function routeOption({ destination, prefixLength }: Route): Uint8Array {
  const head = Uint8Array.of(prefixLength, 0);
  return option(
    Option.route,
    Buffer.concat([head, u32(ROUTER_LIFETIME_SECONDS), networkOf(destination, prefixLength)]),
  );
}

function lifetimeOption(type: number, value: Uint8Array): Uint8Array {
  return option(type, Buffer.concat([new Uint8Array(2), u32(ROUTER_LIFETIME_SECONDS), value]));
}

/** Padded to units of 8 bytes, in which its length is given. */
function option(type: number, value: Uint8Array): Uint8Array {
  const units = Math.ceil((2 + value.length) / 8);
  const bytes = new Uint8Array(units * 8);
  bytes.set([type, units]);
  bytes.set(value, 2);
  return bytes;
}

function networkOf(address: Uint8Array, prefixLength: number): Uint8Array {
  return address.map((byte, i) => byte & (0xff00 >>> Math.min(8, Math.max(0, prefixLength - 8 * i))) & 0xff);
}

function u32(value: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(4));
  bytes.setUint32(0, value);
  return new Uint8Array(bytes.buffer);
}
