import { hasBytes } from "./addresses.ts";
import { encodeDomainNames } from "./domain-names.ts";
import type { FamilyNetwork, GuestNetwork, Route } from "./guest-network.ts";

// RFC 2131, section 2: fields of a message.
const OP = 0;
const XID = 4;
const FLAGS = 10;
const CIADDR = 12;
const YIADDR = 16;
const CHADDR = 28;
const COOKIE = 236;
const OPTIONS = 240;
const BOOTREQUEST = 1;
const BOOTREPLY = 2;
const HARDWARE_ETHERNET = Uint8Array.of(1, 6);
const MAGIC_COOKIE = Uint8Array.of(99, 130, 83, 99);
/** Section 2: what a client takes in any case, without the headers of IP and UDP. */
const MESSAGE_BYTES_MIN = 548;
const BOOTP_BYTES = 300;
const IP_UDP_BYTES = 28;

/** Message types (option 53). */
export const dhcpTypes = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  ack: 5,
  nak: 6,
  release: 7,
  inform: 8,
} as const;

// RFC 2132, and others as said.
const Option = {
  pad: 0,
  subnetMask: 1,
  router: 3,
  dnsServers: 6,
  hostname: 12,
  domainName: 15,
  mtu: 26,
  broadcast: 28,
  ntpServers: 42,
  requestedAddress: 50,
  leaseTime: 51,
  messageType: 53,
  serverIdentifier: 54,
  maxMessageSize: 57,
  renewalTime: 58,
  rebindingTime: 59,
  clientIdentifier: 61,
  /** RFC 3397. */
  domainSearch: 119,
  /** RFC 3442. */
  classlessRoutes: 121,
  end: 255,
} as const;

/** A day; renewed after half, asked of any server after seven eighths (section 4.4.5). */
const LEASE_SECONDS = 86_400;
const RENEWAL_SECONDS = LEASE_SECONDS / 2;
const REBINDING_SECONDS = (LEASE_SECONDS * 7) / 8;

/** Who answers where the network has no gateway: only ever seen as an identifier. */
const NO_GATEWAY_IDENTIFIER = Uint8Array.of(169, 254, 0, 1);

export interface DhcpRequest {
  readonly type: number;
  readonly xid: Uint8Array;
  readonly flags: Uint8Array;
  readonly clientAddress: Uint8Array;
  readonly clientMac: Uint8Array;
  readonly options: ReadonlyMap<number, Uint8Array>;
}

/** Null for what is no DHCP request from an Ethernet client. */
export function parseDhcpRequest(message: Uint8Array): DhcpRequest | null {
  if (message.length < OPTIONS || message[OP] !== BOOTREQUEST || !hasBytes(message, 1, HARDWARE_ETHERNET)) return null;
  if (!hasBytes(message, COOKIE, MAGIC_COOKIE)) return null;
  const options = parseOptions(message.subarray(OPTIONS));
  const type = options?.get(Option.messageType);
  if (!options || type?.length !== 1) return null;
  return {
    type: type[0] ?? 0,
    xid: message.slice(XID, XID + 4),
    flags: message.slice(FLAGS, FLAGS + 2),
    clientAddress: message.slice(CIADDR, CIADDR + 4),
    clientMac: message.slice(CHADDR, CHADDR + 6),
    options,
  };
}

function parseOptions(bytes: Uint8Array): Map<number, Uint8Array> | null {
  const options = new Map<number, Uint8Array>();
  for (let at = 0; at < bytes.length; ) {
    const code = bytes[at++] ?? 0;
    if (code === Option.pad) continue;
    if (code === Option.end) return options;
    const length = bytes[at++];
    if (length === undefined || at + length > bytes.length) return null;
    // RFC 3396: parts of one option follow each other.
    options.set(code, Buffer.concat([options.get(code) ?? new Uint8Array(0), bytes.subarray(at, at + length)]));
    at += length;
  }
  return options;
}

/**
 * A DHCPv4 server (RFC 2131) for one guest, which always gets the same address. It keeps no leases: there is nobody else
 * who could be given the address.
 */
export class Dhcp4Server {
  readonly #mac: Uint8Array;
  readonly #network: FamilyNetwork;
  readonly #configuration: readonly Uint8Array[];
  /** What the server is called, and its answers come from. */
  readonly identifier: Uint8Array;

  constructor(guest: GuestNetwork, network: FamilyNetwork) {
    this.#mac = guest.mac;
    this.#network = network;
    this.identifier = network.gateway ?? NO_GATEWAY_IDENTIFIER;
    this.#configuration = configurationOptions(guest, network);
  }

  /** The answer to a message of the guest, or null where there is none to give. */
  answer(message: Uint8Array): Uint8Array | null {
    const request = parseDhcpRequest(message);
    if (!request || !hasBytes(request.clientMac, 0, this.#mac)) return null;
    switch (request.type) {
      case dhcpTypes.discover:
        return this.#lease(request, dhcpTypes.offer);
      case dhcpTypes.request:
        return this.#request(request);
      case dhcpTypes.inform:
        return this.#message(request, dhcpTypes.ack, []);
      default:
        return null;
    }
  }

  /** Section 4.3.2: answers an offer, or verifies, extends or re-establishes a lease. */
  #request(request: DhcpRequest): Uint8Array | null {
    const server = request.options.get(Option.serverIdentifier);
    if (server && !isSame(server, this.identifier)) return null;
    const requested = request.options.get(Option.requestedAddress);
    const asked = requested ?? request.clientAddress;
    if (isSame(asked, this.#network.address)) return this.#lease(request, dhcpTypes.ack);
    return this.#write(request, dhcpTypes.nak, [option(Option.serverIdentifier, this.identifier)]);
  }

  #lease(request: DhcpRequest, type: number): Uint8Array {
    return this.#message(request, type, [
      option(Option.leaseTime, u32(LEASE_SECONDS)),
      option(Option.renewalTime, u32(RENEWAL_SECONDS)),
      option(Option.rebindingTime, u32(REBINDING_SECONDS)),
    ]);
  }

  #message(request: DhcpRequest, type: number, lease: readonly Uint8Array[]): Uint8Array {
    const server = option(Option.serverIdentifier, this.identifier);
    return this.#write(request, type, [server, ...lease, ...this.#configuration]);
  }

  /** Options that the client has no room for are left out, the last first. */
  #write(request: DhcpRequest, type: number, options: readonly Uint8Array[]): Uint8Array {
    const isLease = type === dhcpTypes.offer || (type === dhcpTypes.ack && request.type !== dhcpTypes.inform);
    const head = new Uint8Array(OPTIONS);
    head[OP] = BOOTREPLY;
    head.set(HARDWARE_ETHERNET, 1);
    head.set(request.xid, XID);
    head.set(request.flags, FLAGS);
    if (type === dhcpTypes.ack) head.set(request.clientAddress, CIADDR);
    if (isLease) head.set(this.#network.address, YIADDR);
    head.set(this.#mac, CHADDR);
    head.set(MAGIC_COOKIE, COOKIE);
    const all = [option(Option.messageType, Uint8Array.of(type)), ...echoed(request), ...options];
    const kept: Uint8Array[] = [];
    let left = roomBytes(request) - OPTIONS - 1;
    for (const each of all) {
      if (each.length > left) continue;
      kept.push(each);
      left -= each.length;
    }
    const message = Buffer.concat([head, ...kept, Uint8Array.of(Option.end)]);
    return Buffer.concat([message, new Uint8Array(Math.max(0, BOOTP_BYTES - message.length))]);
  }
}

/** RFC 6842: the client's identifier goes back to it. */
function echoed(request: DhcpRequest): readonly Uint8Array[] {
  const identifier = request.options.get(Option.clientIdentifier);
  return identifier ? [option(Option.clientIdentifier, identifier)] : [];
}

function roomBytes(request: DhcpRequest): number {
  const said = request.options.get(Option.maxMessageSize);
  if (said?.length !== 2) return MESSAGE_BYTES_MIN;
  return Math.min(1500, Math.max(MESSAGE_BYTES_MIN, (((said[0] ?? 0) << 8) | (said[1] ?? 0)) - IP_UDP_BYTES));
}

/** The most needed first. */
function configurationOptions(guest: GuestNetwork, network: FamilyNetwork): readonly Uint8Array[] {
  const { gateway, dnsServers, ntpServers, prefixLength } = network;
  const routes = classlessRoutes(network);
  const [domain] = guest.searchDomains;
  return [
    option(Option.subnetMask, maskOf(prefixLength)),
    ...(gateway ? [option(Option.router, gateway)] : []),
    ...(routes.length > 0 ? [option(Option.classlessRoutes, Buffer.concat(routes))] : []),
    ...(dnsServers.length > 0 ? [option(Option.dnsServers, Buffer.concat(dnsServers))] : []),
    option(Option.mtu, Uint8Array.of(guest.mtuBytes >>> 8, guest.mtuBytes & 0xff)),
    ...(prefixLength < 31 ? [option(Option.broadcast, broadcastOf(network))] : []),
    ...(guest.hostname !== undefined ? [option(Option.hostname, Buffer.from(guest.hostname, "latin1"))] : []),
    ...(domain !== undefined ? [option(Option.domainName, Buffer.from(domain, "latin1"))] : []),
    ...(ntpServers.length > 0 ? [option(Option.ntpServers, Buffer.concat(ntpServers))] : []),
    ...(domain !== undefined ? [option(Option.domainSearch, encodeDomainNames(guest.searchDomains))] : []),
  ];
}

/**
 * RFC 3442. A client that takes these takes no other routes, so the default one is among them. A gateway beyond the
 * guest's own network (/32 with a link-local gateway) is said to be on the link first.
 */
function classlessRoutes(network: FamilyNetwork): readonly Uint8Array[] {
  const { gateway, routes } = network;
  const isBeyond = gateway !== undefined && !isInside(network, gateway);
  if (routes.length === 0 && !isBeyond) return [];
  const all: Route[] = [
    ...(gateway && isBeyond ? [{ destination: gateway, prefixLength: 32 }] : []),
    ...routes,
    ...(gateway ? [{ destination: new Uint8Array(4), prefixLength: 0, gateway }] : []),
  ];
  return all.map((route) =>
    Buffer.concat([
      Uint8Array.of(route.prefixLength),
      route.destination.subarray(0, Math.ceil(route.prefixLength / 8)),
      route.gateway ?? new Uint8Array(4),
    ]),
  );
}

function isInside({ address, prefixLength }: FamilyNetwork, other: Uint8Array): boolean {
  const mask = maskOf(prefixLength);
  return mask.every((bits, i) => ((address[i] ?? 0) & bits) === ((other[i] ?? 0) & bits));
}

function broadcastOf({ address, prefixLength }: FamilyNetwork): Uint8Array {
  return maskOf(prefixLength).map((bits, i) => ((address[i] ?? 0) & bits) | (~bits & 0xff));
}

function maskOf(prefixLength: number): Uint8Array {
  return u32(prefixLength === 0 ? 0 : (0xffffffff << (32 - prefixLength)) >>> 0);
}

function u32(value: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(4));
  bytes.setUint32(0, value);
  return new Uint8Array(bytes.buffer);
}

/** In parts of 255 bytes where it is longer (RFC 3396). */
function option(code: number, value: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < value.length; at += 255) {
    const part = value.subarray(at, at + 255);
    parts.push(Uint8Array.of(code, part.length), part);
  }
  return Buffer.concat(parts);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && hasBytes(a, 0, b);
}
