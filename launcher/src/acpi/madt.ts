import { IOAPIC, LAPIC } from "../boot/x86/layout.ts";
import { newTable, sealTable, TABLE_HEADER_BYTES } from "./table.ts";

const REVISION = 6;
const ENABLED = 1;
/** APIC identifiers from here on need the x2APIC form of an entry (ACPI 6.5, section 5.2.12.12). */
const FIRST_X2APIC_ID = 255;
const ALL_PROCESSORS = { uid8: 0xff, uid32: 0xffff_ffff } as const;
const LINT1 = 1;

/**
 * Multiple APIC Description Table (ACPI 6.5, section 5.2.12): one IOAPIC, and processors whose APIC identifiers are
 * 0 to `cpuCount` - 1, as in their CPUID. LINT1 is the NMI of each. No 8259 is declared; ISA interrupts are GSIs of
 * the same number.
 */
export function buildMadt(cpuCount: number): Uint8Array {
  const apicIds = Array.from({ length: cpuCount }, (_, index) => index);
  const entries = [ioapic(), ...apicIds.map(processor), nmi()];
  if (cpuCount > FIRST_X2APIC_ID) entries.push(x2apicNmi());
  const sizeBytes = TABLE_HEADER_BYTES + 8 + entries.reduce((sum, entry) => sum + entry.length, 0);
  const table = newTable("APIC", REVISION, sizeBytes);
  table.setUint32(TABLE_HEADER_BYTES, LAPIC, true);
  const bytes = new Uint8Array(table.buffer);
  let at = TABLE_HEADER_BYTES + 8;
  for (const entry of entries) {
    bytes.set(entry, at);
    at += entry.length;
  }
  return sealTable(table);
}

function ioapic(): Uint8Array {
  const entry = newEntry(1, 12);
  entry.setUint32(4, IOAPIC, true);
  return new Uint8Array(entry.buffer);
}

function processor(apicId: number): Uint8Array {
  if (apicId < FIRST_X2APIC_ID) {
    const entry = newEntry(0, 8);
    entry.setUint8(2, apicId);
    entry.setUint8(3, apicId);
    entry.setUint32(4, ENABLED, true);
    return new Uint8Array(entry.buffer);
  }
  const entry = newEntry(9, 16);
  entry.setUint32(4, apicId, true);
  entry.setUint32(8, ENABLED, true);
  entry.setUint32(12, apicId, true);
  return new Uint8Array(entry.buffer);
}

function nmi(): Uint8Array {
  const entry = newEntry(4, 6);
  entry.setUint8(2, ALL_PROCESSORS.uid8);
  entry.setUint8(5, LINT1);
  return new Uint8Array(entry.buffer);
}

function x2apicNmi(): Uint8Array {
  const entry = newEntry(10, 12);
  entry.setUint32(4, ALL_PROCESSORS.uid32, true);
  entry.setUint8(8, LINT1);
  return new Uint8Array(entry.buffer);
}

function newEntry(type: number, sizeBytes: number): DataView<ArrayBuffer> {
  const entry = new DataView(new ArrayBuffer(sizeBytes));
  entry.setUint8(0, type);
  entry.setUint8(1, sizeBytes);
  return entry;
}
