import { PCI_BUS_COUNT, PCI_ECAM } from "../boot/x86/layout.ts";
import { newTable, sealTable, TABLE_HEADER_BYTES } from "./table.ts";

const ENTRY = TABLE_HEADER_BYTES + 8;

/** Memory-mapped configuration space of segment 0 (PCI Firmware Specification 3.3, section 4.1.2). */
export function buildMcfg(): Uint8Array {
  const table = newTable("MCFG", 1, ENTRY + 16);
  table.setBigUint64(ENTRY, BigInt(PCI_ECAM), true);
  table.setUint8(ENTRY + 11, PCI_BUS_COUNT - 1);
  return sealTable(table);
}
