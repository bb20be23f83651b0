/** What all ACPI tables share (ACPI 6.5, section 5.2.6): a header of 36 bytes, and bytes that sum up to zero. */

export const TABLE_HEADER_BYTES = 36;
export const OEM_ID = "TYPVSR";
const OEM_TABLE_ID = "TYPVISOR";
const CREATOR_ID = "TYPV";

/** A table of `sizeBytes` with its header filled in; `sealTable` is called when the rest is. */
export function newTable(signature: string, revision: number, sizeBytes: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(sizeBytes));
  putText(view, 0, signature);
  view.setUint32(4, sizeBytes, true);
  view.setUint8(8, revision);
  putText(view, 10, OEM_ID);
  putText(view, 16, OEM_TABLE_ID);
  view.setUint32(24, 1, true);
  putText(view, 28, CREATOR_ID);
  view.setUint32(32, 1, true);
  return view;
}

export function sealTable(table: DataView<ArrayBuffer>): Uint8Array {
  const bytes = new Uint8Array(table.buffer);
  bytes[9] = 0;
  bytes[9] = checksum(bytes);
  return bytes;
}

/** The byte that makes the sum of all bytes zero. */
export function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

export function putText(view: DataView, offset: number, text: string): void {
  for (let i = 0; i < text.length; i++) view.setUint8(offset + i, text.charCodeAt(i));
}
