import type { MemoryRegion } from "../../memory/guest-memory.ts";
import { HIGH_RAM, LOW_RAM_END, PCI_ECAM, PCI_ECAM_BYTES } from "./layout.ts";

/** Address range types, ACPI 6.5 section 15, table 15.4. PVH memory maps use the same. */
export const E820_TYPE = { ram: 1, reserved: 2 } as const;

export interface E820Entry {
  readonly start: number;
  readonly sizeBytes: number;
  readonly type: (typeof E820_TYPE)[keyof typeof E820_TYPE];
}

/**
 * The memory map that the guest is told, sorted and disjoint: all RAM but the area of ACPI tables below 1 MiB, and
 * ECAM as reserved (Linux uses ECAM only where the map or ACPI reserves it).
 */
export function e820Map(ram: readonly MemoryRegion[]): E820Entry[] {
  const entries: E820Entry[] = [
    { start: LOW_RAM_END, sizeBytes: HIGH_RAM - LOW_RAM_END, type: E820_TYPE.reserved },
    { start: PCI_ECAM, sizeBytes: PCI_ECAM_BYTES, type: E820_TYPE.reserved },
  ];
  for (const region of ram) {
    const end = region.gpa + region.sizeBytes;
    addRam(entries, region.gpa, Math.min(end, LOW_RAM_END));
    addRam(entries, Math.max(region.gpa, HIGH_RAM), end);
  }
  return entries.sort((a, b) => a.start - b.start);
}

function addRam(entries: E820Entry[], start: number, end: number): void {
  if (end > start) entries.push({ start, sizeBytes: end - start, type: E820_TYPE.ram });
}
