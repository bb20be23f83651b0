import { type Aml, buffer, concat } from "./aml.ts";

/** Resource descriptors (ACPI 6.5, section 6.4), and the template that holds them. Ends of ranges are exclusive. */

const END_TAG = Uint8Array.of(0x79, 0);

export function resourceTemplate(...descriptors: readonly Uint8Array[]): Aml {
  return buffer(concat(...descriptors, END_TAG));
}

/** Ports that a device answers at (6.4.2.5), 16 bits decoded. */
export function ioPorts({ start, sizeBytes }: { readonly start: number; readonly sizeBytes: number }): Uint8Array {
  const bytes = Uint8Array.of(0x47, 0x01, 0, 0, 0, 0, 1, sizeBytes);
  const view = new DataView(bytes.buffer);
  view.setUint16(2, start, true);
  view.setUint16(4, start, true);
  return bytes;
}

/** Memory below 4 GiB that a device answers at, read and write (6.4.3.4). */
export function memory32(start: number, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x86);
  view.setUint16(1, 9, true);
  view.setUint8(3, 1);
  view.setUint32(4, start, true);
  view.setUint32(8, sizeBytes, true);
  return bytes;
}

/** An interrupt that a device raises, active high, not shared (6.4.3.6). */
export function interrupt(gsi: number, trigger: "edge" | "level"): Uint8Array {
  const bytes = new Uint8Array(9);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x89);
  view.setUint16(1, 6, true);
  view.setUint8(3, 0x01 | (trigger === "edge" ? 0x02 : 0));
  view.setUint8(4, 1);
  view.setUint32(5, gsi, true);
  return bytes;
}

const WINDOW_KINDS = { memory: 0, ports: 1, buses: 2 } as const;
/** Bits that only this kind has: memory is read-write and not cacheable, ports are the whole ISA range. */
const WINDOW_FLAGS = { memory: 0x01, ports: 0x03, buses: 0 } as const;
/** Descriptor types by the width of their numbers (6.4.3.5). */
const WINDOW_TYPES = { 2: 0x88, 4: 0x87, 8: 0x8a } as const;

/** A range that a bridge passes on to the bus below it: positive decode, both ends fixed, no translation. */
export function window(
  kind: keyof typeof WINDOW_KINDS,
  widthBytes: 2 | 4 | 8,
  start: number,
  size: number,
): Uint8Array {
  const bytes = new Uint8Array(6 + 5 * widthBytes);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, WINDOW_TYPES[widthBytes]);
  view.setUint16(1, bytes.length - 3, true);
  view.setUint8(3, WINDOW_KINDS[kind]);
  view.setUint8(4, 0x0c);
  view.setUint8(5, WINDOW_FLAGS[kind]);
  [0, start, start + size - 1, 0, size].forEach((value, index) => {
    const at = 6 + index * widthBytes;
    if (widthBytes === 2) view.setUint16(at, value, true);
    else if (widthBytes === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
  });
  return bytes;
}
