import type { Gpa } from "../memory/gpa.ts";
import { newTable, sealTable, TABLE_HEADER_BYTES } from "./table.ts";

/** Extended System Description Table (ACPI 6.5, section 5.2.8): where the other tables are. */
export function buildXsdt(tables: readonly Gpa[]): Uint8Array {
  const table = newTable("XSDT", 1, TABLE_HEADER_BYTES + tables.length * 8);
  tables.forEach((address, index) => {
    table.setBigUint64(TABLE_HEADER_BYTES + index * 8, BigInt(address), true);
  });
  return sealTable(table);
}
