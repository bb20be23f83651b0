import type { Gpa } from "../memory/gpa.ts";
import { checksum, OEM_ID, putText } from "./table.ts";

export const RSDP_BYTES = 36;
/** The part that ACPI 1.0 knew, with a checksum of its own. */
const FIRST_PART_BYTES = 20;

/** Root System Description Pointer (ACPI 6.5, section 5.2.5.3). */
export function buildRsdp(xsdt: Gpa): Uint8Array {
  const bytes = new Uint8Array(RSDP_BYTES);
  const view = new DataView(bytes.buffer);
  putText(view, 0, "RSD PTR ");
  putText(view, 9, OEM_ID);
  view.setUint8(15, 2);
  view.setUint32(20, RSDP_BYTES, true);
  view.setBigUint64(24, BigInt(xsdt), true);
  bytes[8] = checksum(bytes.subarray(0, FIRST_PART_BYTES));
  bytes[32] = checksum(bytes);
  return bytes;
}
