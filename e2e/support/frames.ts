/** An end of a datagram over IPv4. */
export interface FrameEnd {
  readonly mac: string;
  readonly address: string;
  readonly port: number;
}

/** Before each frame that the test guest is told to send; it asks for nothing. */
export const VIRTIO_NET_HEADER_BYTES = 12;
/** Of Ethernet, IPv4 and UDP. */
export const DATAGRAM_HEADERS_BYTES = 14 + 20 + 8;

/** A datagram as a guest sends it, in hexadecimal digits, as the test guest's `netsend` and `netask` take it. */
export function datagramFrame(source: FrameEnd, target: FrameEnd, payload: Buffer): string {
  const ip = Buffer.alloc(20);
  ip.writeUInt16BE(0x4500, 0);
  ip.writeUInt16BE(ip.length + 8 + payload.length, 2);
  // Don't fragment; time to live; UDP.
  ip.writeUInt16BE(0x4000, 6);
  ip.writeUInt16BE((64 << 8) | 17, 8);
  for (const [index, { address }] of [source, target].entries()) ip.set(address.split(".").map(Number), 12 + 4 * index);
  ip.writeUInt16BE(internetChecksum(ip), 10);
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(source.port, 0);
  udp.writeUInt16BE(target.port, 2);
  // No checksum: over IPv4 there may be none.
  udp.writeUInt16BE(udp.length + payload.length, 4);
  const macs = Buffer.from((target.mac + source.mac).replaceAll(":", ""), "hex");
  const frame = [Buffer.alloc(VIRTIO_NET_HEADER_BYTES), macs, Buffer.from("0800", "hex"), ip, udp, payload];
  return Buffer.concat(frame).toString("hex");
}

/** RFC 1071, of an even number of bytes. */
function internetChecksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** A question for the IPv4 addresses of a name (RFC 1035, section 4.1). */
export function dnsQuestion(id: number, name: string): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(1, 4);
  const labels = name.split(".").flatMap((label) => [Buffer.from([label.length]), Buffer.from(label)]);
  // Type A, class IN.
  return Buffer.concat([header, ...labels, Buffer.from([0, 0, 1, 0, 1])]);
}
