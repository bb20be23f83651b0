import * as protocols from "./protocols.ts";

const BROADCAST = new Uint8Array(6).fill(0xff);
// RFC 826 and RFC 903: Ethernet and IPv4.
const HARDWARE_ETHERNET = 1;
const REQUEST = 1;
const REQUEST_REVERSE = 3;
const ARP_BYTES = 28;
/** Without the checksum. */
const FRAME_BYTES_MIN = 60;

/**
 * Frames that show a network where a guest is now, in the guest's own name: switches learn from any frame, and neighbours from
 * the second. A reverse ARP request asks for the guest's own address, as QEMU's does, and needs none; where there is an
 * address, an ARP announcement (RFC 5227, section 3) says it, which filters pass that know ARP alone.
 */
export function announcementsOf(mac: Uint8Array, ipv4?: Uint8Array): readonly Uint8Array[] {
  const nobody = new Uint8Array(4);
  const reverse = frame(protocols.ETHERTYPE_RARP, mac, arp(REQUEST_REVERSE, [mac, nobody, mac, nobody]));
  if (!ipv4) return [reverse];
  const unknown = new Uint8Array(6);
  return [reverse, frame(protocols.ETHERTYPE_ARP, mac, arp(REQUEST, [mac, ipv4, unknown, ipv4]))];
}

/** `ends`: MAC and address of the sender, then of the target. */
function arp(operation: number, ends: readonly Uint8Array[]): Uint8Array {
  const message = new Uint8Array(ARP_BYTES);
  const view = new DataView(message.buffer);
  view.setUint16(0, HARDWARE_ETHERNET);
  view.setUint16(2, protocols.ETHERTYPE_IPV4);
  view.setUint8(4, 6);
  view.setUint8(5, 4);
  view.setUint16(6, operation);
  let at = 8;
  for (const end of ends) {
    message.set(end, at);
    at += end.length;
  }
  return message;
}

function frame(etherType: number, source: Uint8Array, message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES_MIN);
  bytes.set(BROADCAST, 0);
  bytes.set(source, 6);
  new DataView(bytes.buffer).setUint16(12, etherType);
  bytes.set(message, protocols.ETHERNET_HEADER_BYTES);
  return bytes;
}
