/** ECMA-119 section 7.2.3: a 16-bit number in both byte orders, one after the other. */
export function putBoth16(view: DataView, offset: number, value: number): void {
  view.setUint16(offset, value, true);
  view.setUint16(offset + 2, value, false);
}

/** Section 7.3.3: a 32-bit number in both byte orders. */
export function putBoth32(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value, true);
  view.setUint32(offset + 4, value, false);
}

/** `text` as bytes, one a character. */
export function latin1(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/** `text` as Joliet has it: UCS-2, most significant byte first. */
export function ucs2(text: string): Uint8Array {
  return Buffer.from(text, "utf16le").swap16();
}
