import * as protocols from "./protocols.ts";

/** Addresses of a frame to build: of the link, and of IPv4 (4 bytes) or IPv6 (16). */
export interface Endpoints {
  readonly sourceMac: Uint8Array;
  readonly targetMac: Uint8Array;
  readonly source: Uint8Array;
  readonly target: Uint8Array;
}

const TTL = 64;
/** RFC 4861: neighbour discovery that was forwarded is not valid. */
const ND_HOP_LIMIT = 255;

/** An Ethernet frame with one UDP datagram. */
export function udpFrame(ends: Endpoints, ports: { source: number; target: number }, payload: Uint8Array): Uint8Array {
  const datagram = new Uint8Array(protocols.UDP_HEADER_BYTES + payload.length);
  const view = new DataView(datagram.buffer);
  view.setUint16(0, ports.source);
  view.setUint16(2, ports.target);
  view.setUint16(4, datagram.length);
  datagram.set(payload, protocols.UDP_HEADER_BYTES);
  // RFC 768: a sum of zero is sent as all ones.
  view.setUint16(6, pseudoChecksum(ends, protocols.IPPROTO_UDP, datagram) || 0xffff);
  return ends.source.length === 4
    ? ipv4Frame(ends, protocols.IPPROTO_UDP, datagram)
    : ipv6Frame(ends, protocols.IPPROTO_UDP, TTL, datagram);
}

/** An Ethernet frame with one ICMPv6 message; its checksum (bytes 2 and 3) is filled in. */
export function icmpv6Frame(ends: Endpoints, message: Uint8Array): Uint8Array {
  const summed = Uint8Array.from(message);
  new DataView(summed.buffer).setUint16(2, pseudoChecksum(ends, protocols.IPPROTO_ICMPV6, summed));
  return ipv6Frame(ends, protocols.IPPROTO_ICMPV6, ND_HOP_LIMIT, summed);
}

function ipv4Frame(ends: Endpoints, protocol: number, payload: Uint8Array): Uint8Array {
  const header = new DataView(new ArrayBuffer(protocols.IPV4_HEADER_BYTES));
  header.setUint8(0, 0x45);
  header.setUint16(2, header.byteLength + payload.length);
  header.setUint8(8, TTL);
  header.setUint8(9, protocol);
  const bytes = new Uint8Array(header.buffer);
  bytes.set(ends.source, 12);
  bytes.set(ends.target, 16);
  header.setUint16(10, checksum(bytes));
  return ethernetFrame(ends, protocols.ETHERTYPE_IPV4, bytes, payload);
}

function ipv6Frame(ends: Endpoints, nextHeader: number, hopLimit: number, payload: Uint8Array): Uint8Array {
  const header = new DataView(new ArrayBuffer(protocols.IPV6_HEADER_BYTES));
  header.setUint8(0, 0x60);
  header.setUint16(4, payload.length);
  header.setUint8(6, nextHeader);
  header.setUint8(7, hopLimit);
  const bytes = new Uint8Array(header.buffer);
  bytes.set(ends.source, 8);
  bytes.set(ends.target, 24);
  return ethernetFrame(ends, protocols.ETHERTYPE_IPV6, bytes, payload);
}

function ethernetFrame(ends: Endpoints, etherType: number, header: Uint8Array, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(protocols.ETHERNET_HEADER_BYTES + header.length + payload.length);
  frame.set(ends.targetMac, 0);
  frame.set(ends.sourceMac, 6);
  new DataView(frame.buffer).setUint16(12, etherType);
  frame.set(header, protocols.ETHERNET_HEADER_BYTES);
  frame.set(payload, protocols.ETHERNET_HEADER_BYTES + header.length);
  return frame;
}

/** RFC 768 and RFC 8200, section 8.1: over a pseudo header and the payload, whose own field is zero. */
function pseudoChecksum({ source, target }: Endpoints, protocol: number, payload: Uint8Array): number {
  const pseudo = new DataView(new ArrayBuffer(2 * source.length + 8));
  const bytes = new Uint8Array(pseudo.buffer);
  bytes.set(source, 0);
  bytes.set(target, source.length);
  pseudo.setUint32(2 * source.length, payload.length);
  pseudo.setUint32(2 * source.length + 4, protocol);
  return checksum(bytes, payload);
}

/** RFC 1071, over parts that each but the last have an even length. */
export function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) for (let i = 0; i < part.length; i += 2) sum += ((part[i] ?? 0) << 8) | (part[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}
