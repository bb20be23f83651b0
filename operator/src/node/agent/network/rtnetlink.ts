import { formatAddress, formatMac, isIpv6, parseAddress, parseMac } from "./ip-address.ts";
import { attribute, attributesOf, CREATE, type NetlinkSocket, REPLACE, textOf } from "./netlink.ts";

// <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>, <linux/neighbour.h>
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_NEWNEIGH = 28;
const RTM_GETNEIGH = 30;
const RTM_NEWQDISC = 36;
const AF_INET = 2;
const AF_INET6 = 10;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_TUN_PERSIST = 6;
const IFLA_TUN_NUM_QUEUES = 8;
const IFLA_TUN_NUM_DISABLED_QUEUES = 9;
const IFLA_IFALIAS = 20;
const IFLA_CARRIER = 33;
const IFF_UP = 0x1;
const IFF_NOARP = 0x80;
const IFF_ALLMULTI = 0x200;
const ARPHRD_ETHER = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_TEMPORARY = 0x01;
const IFA_F_NODAD = 0x02;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_PERMANENT = 0x80;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
/** In a request to remove a route: whatever its scope. */
const RT_SCOPE_NOWHERE = 255;
const RT_TABLE_MAIN = 254;
/** A table that no rule of the kernel leads to: routes in it are remembered, not used. */
const RT_TABLE_GUEST = 0x7476;
const RTPROT_KERNEL = 2;
const RTPROT_STATIC = 4;
const RTPROT_RA = 9;
const RTNH_F_ONLINK = 4;
const RTN_UNICAST = 1;
/** What the kernel has learned of a path, not a route. */
const RTM_F_CLONED = 0x200;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;
/** Incomplete and failed entries have no address to go to. */
const NUD_VALID = 0xde;
const NTF_USE = 0x01;
const TC_H_ROOT = 0xffffffff;
const TCA_KIND = 1;

/** A network interface. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mac: string;
  readonly mtuBytes: number;
  /** What drives it: "veth", "macvlan", "tun"; undefined for hardware. */
  readonly kind: string | undefined;
  readonly alias: string | undefined;
  /** Of a TAP: somebody has a descriptor of it. */
  readonly isHeld: boolean;
  readonly allMulticast: boolean;
  /** Ethernet with neighbours to resolve; some plugins make interfaces that carry bare packets. */
  readonly isEthernet: boolean;
}

export interface InterfaceAddress {
  readonly linkIndex: number;
  readonly address: string;
  readonly prefixLength: number;
  /** From a router's advertisement, for a time: nobody gave it to the interface. */
  readonly isLearned?: boolean;
}

/** A unicast route of the main table, or one that was put aside. */
export interface Route {
  readonly linkIndex: number;
  readonly isIpv6: boolean;
  /** Undefined for the default route. */
  readonly destination: { readonly address: string; readonly prefixLength: number } | undefined;
  readonly gateway: string | undefined;
  /** The kernel made it for an address's prefix. */
  readonly ofPrefix: boolean;
  /** From a router's advertisement. */
  readonly isLearned: boolean;
  readonly isPutAside: boolean;
  /** Of the gateway: it is on the link, whatever its address. */
  readonly isOnLink: boolean;
  /** Lower goes first. */
  readonly priority: number;
}

export function listLinks(netlink: NetlinkSocket): readonly Link[] {
  return netlink.list("list interfaces", { type: RTM_GETLINK, body: linkHeader(0) }).map((message) => {
    const attributes = attributesOf(message, 16);
    const info = attributesOf(attributes.get(IFLA_LINKINFO) ?? Buffer.alloc(0));
    const carrier = attributes.get(IFLA_CARRIER)?.[0] === 1;
    return {
      index: message.readInt32LE(4),
      name: textOf(attributes.get(IFLA_IFNAME)) ?? "",
      mac: formatMac(attributes.get(IFLA_ADDRESS) ?? new Uint8Array()),
      mtuBytes: attributes.get(IFLA_MTU)?.readUInt32LE(0) ?? 0,
      kind: textOf(info.get(IFLA_INFO_KIND)),
      alias: textOf(attributes.get(IFLA_IFALIAS)),
      isHeld: carrier || isHeldTap(attributesOf(info.get(IFLA_INFO_DATA) ?? Buffer.alloc(0))),
      allMulticast: (message.readUInt32LE(8) & IFF_ALLMULTI) !== 0,
      isEthernet: message.readUInt16LE(2) === ARPHRD_ETHER && (message.readUInt32LE(8) & IFF_NOARP) === 0,
    };
  });
}

/** The carrier alone does not tell: who holds a TAP can unplug it. One that is not to stay is gone when nobody does. */
function isHeldTap(tun: ReadonlyMap<number, Buffer>): boolean {
  const queues = [IFLA_TUN_NUM_QUEUES, IFLA_TUN_NUM_DISABLED_QUEUES].map((type) => tun.get(type)?.readUInt32LE(0) ?? 0);
  return tun.get(IFLA_TUN_PERSIST)?.[0] === 0 || queues.some((count) => count > 0);
}

/** Addresses that the interface may be reached at from elsewhere: global ones that are not on their way in or out. */
export function listGlobalAddresses(netlink: NetlinkSocket): readonly InterfaceAddress[] {
  const messages = netlink.list("list addresses", { type: RTM_GETADDR, body: Buffer.alloc(8) });
  return messages.flatMap((message) => {
    const attributes = attributesOf(message, 8);
    // On a link between two ends, IFA_ADDRESS is the other one.
    const address = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
    const flags = attributes.get(IFA_FLAGS)?.readUInt32LE(0) ?? message.readUInt8(2);
    // For IPv4 the first flag is IFA_F_SECONDARY.
    const passing = message.readUInt8(0) === AF_INET6 ? IFA_F_TEMPORARY | IFA_F_DADFAILED | IFA_F_DEPRECATED : 0;
    if (address === undefined || message.readUInt8(3) !== RT_SCOPE_UNIVERSE || flags & passing) return [];
    return [
      {
        linkIndex: message.readUInt32LE(4),
        address: formatAddress(address),
        prefixLength: message.readUInt8(1),
        isLearned: (flags & IFA_F_PERMANENT) === 0,
      },
    ];
  });
}

export function listRoutes(netlink: NetlinkSocket): readonly Route[] {
  const messages = [AF_INET, AF_INET6].flatMap((family) => {
    const body = Buffer.alloc(12);
    body.writeUInt8(family, 0);
    return netlink.list("list routes", { type: RTM_GETROUTE, body });
  });
  return messages.flatMap(routesOf);
}

/** Of several next hops, each is a route. */
function routesOf(message: Buffer): readonly Route[] {
  const attributes = attributesOf(message, 12);
  const table = attributes.get(RTA_TABLE)?.readUInt32LE(0) ?? message.readUInt8(4);
  const flags = message.readUInt32LE(8);
  const isRoute = message.readUInt8(7) === RTN_UNICAST && !(flags & RTM_F_CLONED);
  if ((table !== RT_TABLE_MAIN && table !== RT_TABLE_GUEST) || !isRoute) return [];
  const destination = attributes.get(RTA_DST);
  const protocol = message.readUInt8(5);
  return nextHops(attributes, flags).map(({ linkIndex, attributes: way, isOnLink }) => {
    const gateway = way.get(RTA_GATEWAY) ?? way.get(RTA_VIA)?.subarray(2);
    return {
      linkIndex,
      isIpv6: message.readUInt8(0) === AF_INET6,
      destination: destination && { address: formatAddress(destination), prefixLength: message.readUInt8(1) },
      gateway: gateway && formatAddress(gateway),
      ofPrefix: protocol === RTPROT_KERNEL,
      isLearned: protocol === RTPROT_RA,
      isPutAside: table === RT_TABLE_GUEST,
      isOnLink,
      priority: attributes.get(RTA_PRIORITY)?.readUInt32LE(0) ?? 0,
    };
  });
}

interface NextHop {
  readonly linkIndex: number;
  readonly attributes: ReadonlyMap<number, Buffer>;
  readonly isOnLink: boolean;
}

function nextHops(attributes: ReadonlyMap<number, Buffer>, flags: number): readonly NextHop[] {
  const linkIndex = attributes.get(RTA_OIF)?.readInt32LE(0);
  const isOnLink = (flags & RTNH_F_ONLINK) !== 0;
  if (linkIndex !== undefined) return [{ linkIndex, attributes, isOnLink }];
  const found: NextHop[] = [];
  const hops = attributes.get(RTA_MULTIPATH) ?? Buffer.alloc(0);
  // struct rtnexthop, with attributes of its own.
  for (let at = 0; at + 8 <= hops.length; ) {
    const length = hops.readUInt16LE(at);
    if (length < 8) break;
    found.push({
      linkIndex: hops.readInt32LE(at + 4),
      attributes: attributesOf(hops.subarray(at, at + length), 8),
      isOnLink: (hops.readUInt8(at + 2) & RTNH_F_ONLINK) !== 0,
    });
    at += (length + 3) & ~3;
  }
  return found;
}

/** Has the kernel use these routes no more; listRoutes goes on telling of them. */
export function putRoutesAside(netlink: NetlinkSocket, routes: readonly Route[]): void {
  const used = routes.filter(({ isPutAside }) => !isPutAside);
  // The kernel looks for gateways among the routes that are there.
  const [onLink, byGateway] = [used.filter(({ gateway }) => !gateway), used.filter(({ gateway }) => gateway)];
  for (const route of [...onLink, ...byGateway]) {
    const scope = route.isIpv6 || route.gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    const protocol = route.ofPrefix ? RTPROT_KERNEL : route.isLearned ? RTPROT_RA : RTPROT_STATIC;
    const body = routeMessage(route, { table: RT_TABLE_GUEST, scope, protocol });
    netlink.change(`put ${named(route)} aside`, { type: RTM_NEWROUTE, flags: CREATE | REPLACE, body });
  }
  for (const route of [...byGateway, ...onLink]) {
    const body = routeMessage(route, { table: RT_TABLE_MAIN, scope: RT_SCOPE_NOWHERE, protocol: 0 });
    netlink.change(`remove ${named(route)}`, { type: RTM_DELROUTE, body });
  }
}

function named({ destination }: Route): string {
  return destination ? `the route to ${destination.address}/${destination.prefixLength}` : "the default route";
}

function routeMessage(
  { linkIndex, isIpv6, destination, gateway, priority, isOnLink }: Route,
  { table, scope, protocol }: { readonly table: number; readonly scope: number; readonly protocol: number },
): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(isIpv6 ? AF_INET6 : AF_INET, 0);
  header.writeUInt8(destination?.prefixLength ?? 0, 1);
  header.writeUInt8(protocol, 5);
  header.writeUInt8(scope, 6);
  header.writeUInt8(RTN_UNICAST, 7);
  header.writeUInt32LE(isOnLink ? RTNH_F_ONLINK : 0, 8);
  return Buffer.concat([
    header,
    ...(destination ? [attribute(RTA_DST, parseAddress(destination.address))] : []),
    ...(gateway ? [attribute(RTA_GATEWAY, parseAddress(gateway))] : []),
    ...(priority === 0 ? [] : [attribute(RTA_PRIORITY, priority)]),
    attribute(RTA_OIF, linkIndex),
    attribute(RTA_TABLE, table),
  ]);
}

export interface Neighbour {
  readonly mac: string;
  /** Written there; nobody was asked, and maybe nobody would answer. */
  readonly isPermanent: boolean;
}

/** What is known of a neighbour's address on an interface. */
export function neighbourAt(netlink: NetlinkSocket, linkIndex: number, address: string): Neighbour | undefined {
  const body = neighbourHeader(familyOf(address), 0, { state: 0, flags: 0 });
  for (const message of netlink.list("list neighbours", { type: RTM_GETNEIGH, body })) {
    const attributes = attributesOf(message, 12);
    const destination = attributes.get(NDA_DST);
    const mac = attributes.get(NDA_LLADDR);
    if (destination === undefined || mac === undefined || !(message.readUInt16LE(8) & NUD_VALID)) continue;
    if (message.readInt32LE(4) === linkIndex && formatAddress(destination) === address)
      return { mac: formatMac(mac), isPermanent: (message.readUInt16LE(8) & NUD_PERMANENT) !== 0 };
  }
  return undefined;
}

/** Has the kernel ask for a neighbour's MAC, as a packet to it would. */
export function askForNeighbour(netlink: NetlinkSocket, linkIndex: number, address: string): void {
  const header = neighbourHeader(familyOf(address), linkIndex, { state: 0, flags: NTF_USE });
  const body = Buffer.concat([header, attribute(NDA_DST, parseAddress(address))]);
  netlink.change(`ask for neighbour ${address}`, { type: RTM_NEWNEIGH, flags: CREATE, body });
}

/** A neighbour that needs no asking, and that no answer changes. */
export function setNeighbour(
  netlink: NetlinkSocket,
  linkIndex: number,
  neighbour: { address: string; mac: string },
): void {
  const header = neighbourHeader(familyOf(neighbour.address), linkIndex, { state: NUD_PERMANENT, flags: 0 });
  const body = Buffer.concat([
    header,
    attribute(NDA_DST, parseAddress(neighbour.address)),
    attribute(NDA_LLADDR, parseMac(neighbour.mac)),
  ]);
  netlink.change(`set neighbour ${neighbour.address}`, { type: RTM_NEWNEIGH, flags: CREATE | REPLACE, body });
}

export interface LinkChange {
  readonly up?: true;
  readonly allMulticast?: true;
  readonly mac?: string;
  readonly mtuBytes?: number;
  readonly alias?: string;
}

export function changeLink(netlink: NetlinkSocket, index: number, change: LinkChange): void {
  const flags = (change.up ? IFF_UP : 0) | (change.allMulticast ? IFF_ALLMULTI : 0);
  const parts = [linkHeader(index, flags)];
  if (change.mac !== undefined) parts.push(attribute(IFLA_ADDRESS, parseMac(change.mac)));
  if (change.mtuBytes !== undefined) parts.push(attribute(IFLA_MTU, change.mtuBytes));
  if (change.alias !== undefined) parts.push(attribute(IFLA_IFALIAS, Buffer.from(change.alias)));
  netlink.change("change an interface", { type: RTM_NEWLINK, body: Buffer.concat(parts) });
}

export function deleteLink(netlink: NetlinkSocket, index: number): void {
  netlink.change("delete an interface", { type: RTM_DELLINK, body: linkHeader(index) });
}

/** No queueing discipline: one would be made for each of the 256 queues that a multi-queue TAP may have. */
export function dropQueueingDiscipline(netlink: NetlinkSocket, index: number): void {
  const header = Buffer.alloc(20);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(TC_H_ROOT, 12);
  const body = Buffer.concat([header, attribute(TCA_KIND, "noqueue")]);
  netlink.change("set a queueing discipline", { type: RTM_NEWQDISC, flags: CREATE | REPLACE, body });
}

/** Without duplicate address detection, which would keep an IPv6 address unusable for a second. */
export function addAddress(netlink: NetlinkSocket, { linkIndex, address, prefixLength }: InterfaceAddress): void {
  const header = Buffer.alloc(8);
  header.writeUInt8(familyOf(address), 0);
  header.writeUInt8(prefixLength, 1);
  header.writeUInt8(IFA_F_NODAD, 2);
  header.writeUInt8(address.startsWith("fe80") ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE, 3);
  header.writeUInt32LE(linkIndex, 4);
  const bytes = parseAddress(address);
  const body = Buffer.concat([header, attribute(IFA_LOCAL, bytes), attribute(IFA_ADDRESS, bytes)]);
  netlink.change(`add address ${address}`, { type: RTM_NEWADDR, flags: CREATE | REPLACE, body });
}

/** A route to one address right on the link, with the address that is sent from. */
export function addHostRoute(netlink: NetlinkSocket, linkIndex: number, route: { to: string; from: string }): void {
  const to = parseAddress(route.to);
  const header = Buffer.alloc(12);
  header.writeUInt8(familyOf(route.to), 0);
  header.writeUInt8(to.length * 8, 1);
  header.writeUInt8(RT_TABLE_MAIN, 4);
  header.writeUInt8(RTPROT_STATIC, 5);
  header.writeUInt8(isIpv6(route.to) ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK, 6);
  header.writeUInt8(RTN_UNICAST, 7);
  const body = Buffer.concat([
    header,
    attribute(RTA_DST, to),
    attribute(RTA_OIF, linkIndex),
    attribute(RTA_PREFSRC, parseAddress(route.from)),
  ]);
  netlink.change(`add a route to ${route.to}`, { type: RTM_NEWROUTE, flags: CREATE | REPLACE, body });
}

/** struct ifinfomsg; `flags` are set, all others stay. */
function linkHeader(index: number, flags = 0): Buffer {
  const header = Buffer.alloc(16);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(flags, 12);
  return header;
}

/** struct ndmsg. */
function neighbourHeader(family: number, linkIndex: number, entry: { state: number; flags: number }): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(family, 0);
  header.writeInt32LE(linkIndex, 4);
  header.writeUInt16LE(entry.state, 8);
  header.writeUInt8(entry.flags, 10);
  return header;
}

function familyOf(address: string): number {
  return isIpv6(address) ? AF_INET6 : AF_INET;
}
