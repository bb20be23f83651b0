/** Text of an address in bytes as the kernel has them: 4 or 16, in network order. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const groups = Array.from({ length: 8 }, (_, at) => view.getUint16(at * 2).toString(16));
  // RFC 5952: the first of the longest runs of zeroes is left out.
  const runs = [...groups.join(" ").matchAll(/(?<![^ ])0(?: 0)+(?![^ ])/g)].map(([run]) => run);
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), "");
  if (longest === "") return groups.join(":");
  const text = ` ${groups.join(" ")} `;
  const at = text.indexOf(` ${longest} `);
  const before = text.slice(1, at).replaceAll(" ", ":");
  const after = text.slice(at + longest.length + 2, -1).replaceAll(" ", ":");
  return `${before}::${after}`;
}

/** Bytes of an address that is known to be one; IPv6 without a zone and without dots. */
export function parseAddress(text: string): Uint8Array {
  if (!text.includes(":")) return Uint8Array.from(text.split("."), Number);
  const [head = "", tail] = text.split("::");
  const groupsOf = (part: string) => part.split(":").filter((group) => group !== "");
  const before = groupsOf(head);
  const after = groupsOf(tail ?? "");
  const groups = [...before, ...Array(8 - before.length - after.length).fill("0"), ...after];
  return Uint8Array.from(
    groups.flatMap((group: string) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16)]),
  );
}

export function isIpv6(address: string): boolean {
  return address.includes(":");
}

/** fe80::/10. */
export function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/.test(address);
}

export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export function parseMac(text: string): Uint8Array {
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}
