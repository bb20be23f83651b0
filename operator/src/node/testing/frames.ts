import { parseAddress, parseMac } from "../agent/network/ip-address.ts";

const VNET_HEADER = Buffer.alloc(12);
const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;

export interface Ends {
  readonly sourceMac: string;
  readonly targetMac: string;
  readonly source: string;
  readonly target: string;
}

/** A frame as a TAP of a virtio device takes it, in hexadecimal. */
export function toTap(frame: Uint8Array): string {
  return Buffer.concat([VNET_HEADER, frame]).toString("hex");
}

/** IPv4 with `payload` of `protocol`. */
export function ipv4Frame(ends: Ends, protocol: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(header.length + payload.length, 2);
  header.writeUInt8(64, 8);
  header.writeUInt8(protocol, 9);
  header.set(parseAddress(ends.source), 12);
  header.set(parseAddress(ends.target), 16);
  header.writeUInt16BE(internetChecksum(header), 10);
  return ethernet(ends, ETHERTYPE.ipv4, Buffer.concat([header, payload]));
}

export function udpFrame(ends: Ends, ports: { from: number; to: number }, text: string): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(ports.from, 0);
  header.writeUInt16BE(ports.to, 2);
  header.writeUInt16BE(header.length + text.length, 4);
  return ipv4Frame(ends, 17, Buffer.concat([header, Buffer.from(text)]));
}

/** The first two packets of SCTP (RFC 9260, sections 3.3.2 and 3.3.3), each with the tag 1 and without a state cookie. */
const SCTP_CHUNKS = {
  init: { verificationTag: 0, chunk: "0100001400000001000100000010001000000001" },
  initAck: { verificationTag: 1, chunk: "0200001400000001000100000010001000000001" },
} as const;

/** A packet of SCTP, with its checksum. */
export function sctpFrame(ends: Ends, ports: { from: number; to: number }, type: keyof typeof SCTP_CHUNKS): Buffer {
  const { verificationTag, chunk } = SCTP_CHUNKS[type];
  const packet = Buffer.alloc(32);
  packet.writeUInt16BE(ports.from, 0);
  packet.writeUInt16BE(ports.to, 2);
  packet.writeUInt32BE(verificationTag, 4);
  packet.write(chunk, 12, "hex");
  packet.writeUInt32LE(crc32c(packet), 8);
  return ends.source.includes(":") ? ipv6Frame(ends, 132, packet) : ipv4Frame(ends, 132, packet);
}

/** IPv6 with `payload` of the next header `protocol`. */
export function ipv6Frame(ends: Ends, protocol: number, payload: Uint8Array, hopLimit = 64): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(payload.length, 4);
  header.writeUInt8(protocol, 6);
  header.writeUInt8(hopLimit, 7);
  const addresses = [parseAddress(ends.source), parseAddress(ends.target)];
  return ethernet(ends, ETHERTYPE.ipv6, Buffer.concat([header, ...addresses, payload]));
}

/** An ARP reply that says that `source` is at `sourceMac`, or at `claimedMac`; or a request that `asks` for `target`. */
export function arpFrame(ends: Ends, { claimedMac = ends.sourceMac, asks = false } = {}): Buffer {
  const body = Buffer.concat([
    Buffer.from(`00010800060400${asks ? "01" : "02"}`, "hex"),
    parseMac(claimedMac),
    parseAddress(ends.source),
    parseMac(ends.targetMac),
    parseAddress(ends.target),
  ]);
  return ethernet(ends, ETHERTYPE.arp, body);
}

/** ICMPv6 with its checksum, hop limit 255. */
export function icmpv6Frame(ends: Ends, message: Uint8Array): Buffer {
  const [source, target] = [parseAddress(ends.source), parseAddress(ends.target)];
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(message.length, 0);
  pseudo.writeUInt8(58, 7);
  const body = Buffer.from(message);
  body.writeUInt16BE(0, 2);
  body.writeUInt16BE(internetChecksum(Buffer.concat([source, target, pseudo, body])), 2);
  return ipv6Frame(ends, 58, body, 255);
}

/** `frame` in VLAN 7. */
export function tagged(frame: Buffer): Buffer {
  return Buffer.concat([frame.subarray(0, 12), Buffer.from("81000007", "hex"), frame.subarray(12)]);
}

function ethernet({ sourceMac, targetMac }: Ends, type: number, body: Uint8Array): Buffer {
  const header = Buffer.concat([parseMac(targetMac), parseMac(sourceMac), Buffer.alloc(2)]);
  header.writeUInt16BE(type, 12);
  return Buffer.concat([header, body]);
}

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** RFC 1071. */
function internetChecksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
