import { type StructName, structs } from "./layouts.ts";

/** Zeroed memory for a struct, with `extraBytes` for the array at its end. */
export function newStruct(name: StructName, extraBytes = 0): DataView {
  return new DataView(new ArrayBuffer(structs[name].sizeBytes + extraBytes));
}

/** A 64-bit field as a Number; exact below 2^53. */
export function getU64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}

/** `value` is a safe non-negative integer. */
export function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 2 ** 32, true);
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}

/** An address with all its 64 bits, for messages. */
export function hexU64(view: DataView, offset: number): string {
  return `0x${view.getBigUint64(offset, true).toString(16)}`;
}
