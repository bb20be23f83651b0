import { isIPv4, isIPv6 } from "node:net";

/** Six bytes of "02:5a:00:12:34:56". Throws RangeError for anything else. */
export function macBytes(text: string): Uint8Array {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) throw new RangeError(`not a MAC address: ${text}`);
  return Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
}

/** Throws RangeError for anything but an IPv4 address. */
export function ipv4Bytes(text: string): Uint8Array {
  if (!isIPv4(text)) throw new RangeError(`not an IPv4 address: ${text}`);
  return Uint8Array.from(text.split("."), Number);
}

/** Throws RangeError for anything but an IPv6 address; a zone is not part of one. */
export function ipv6Bytes(text: string): Uint8Array {
  if (!isIPv6(text) || text.includes("%")) throw new RangeError(`not an IPv6 address: ${text}`);
  const [head = "", tail] = text.split("::");
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const bytes = new Uint8Array(16);
  bytes.set(front);
  bytes.set(back, 16 - back.length);
  return bytes;
}

function groups(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (group.includes(".")) return [...ipv4Bytes(group)];
    const value = Number.parseInt(group, 16);
    return [value >>> 8, value & 0xff];
  });
}

/** A network of routes: ADDRESS/PREFIXLENGTH. Throws RangeError for anything else. */
export function parseNetwork(text: string): { readonly address: Uint8Array; readonly prefixLength: number } {
  const [address = "", length = "", ...rest] = text.split("/");
  const bytes = isIPv4(address) ? ipv4Bytes(address) : ipv6Bytes(address);
  const prefixLength = /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (rest.length > 0 || prefixLength < 0 || prefixLength > bytes.length * 8)
    throw new RangeError(`not a network: ${text}`);
  return { address: bytes, prefixLength };
}

export function isLinkLocalIpv6(address: Uint8Array): boolean {
  return address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80;
}

/** Whether `bytes` has `part` at `offset`. */
export function hasBytes(bytes: Uint8Array, offset: number, part: Uint8Array): boolean {
  for (let i = 0; i < part.length; i++) if (bytes[offset + i] !== part[i]) return false;
  return true;
}
