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
  const macs = Buffer.concat([macBytes(target.mac), macBytes(source.mac)]);
  const frame = [Buffer.alloc(VIRTIO_NET_HEADER_BYTES), macs, Buffer.from("0800", "hex"), ip, udp, payload];
  return Buffer.concat(frame).toString("hex");
}

/** What a client that has no address yet asks (RFC 2131, DHCPDISCOVER), as such a frame. */
export function dhcpQuestion(mac: string): string {
  const message = Buffer.alloc(240);
  // A request by Ethernet, whose addresses have 6 bytes; a number.
  message.set([1, 1, 6, 0, 0x74, 0x65, 0x73, 0x74]);
  message.set(macBytes(mac), 28);
  message.set([0x63, 0x82, 0x53, 0x63], 236);
  // Of the kind DISCOVER; asks for netmask and routers.
  const options = Buffer.from([53, 1, 1, 55, 2, 1, 3, 255]);
  const client = { mac, address: "0.0.0.0", port: 68 };
  const server = { mac: "ff:ff:ff:ff:ff:ff", address: "255.255.255.255", port: 67 };
  return datagramFrame(client, server, Buffer.concat([message, options]));
}

/** Addresses that the answer to it offers. */
export function dhcpOffer(hex: string): {
  readonly address: string;
  readonly netmask?: string;
  readonly router?: string;
} {
  const message = Buffer.from(hex, "hex");
  const options = new Map<number, Buffer>();
  for (let at = 240; at + 1 < message.length && message[at] !== 255; at += 2 + (message[at + 1] ?? 0))
    options.set(message[at] ?? 0, message.subarray(at + 2, at + 2 + (message[at + 1] ?? 0)));
  const [netmask, router] = [options.get(1)?.join("."), options.get(3)?.join(".")];
  return { address: message.subarray(16, 20).join("."), ...(netmask && { netmask }), ...(router && { router }) };
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
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
