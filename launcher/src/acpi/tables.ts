import { ACPI_TABLES, ACPI_TABLES_MAX_BYTES, pciWindow64 } from "../boot/x86/layout.ts";
import { type Gpa, gpa } from "../memory/gpa.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { buildDsdt } from "./dsdt.ts";
import { buildFadt } from "./fadt.ts";
import { buildMadt } from "./madt.ts";
import { buildMcfg } from "./mcfg.ts";
import { buildRsdp, RSDP_BYTES } from "./rsdp.ts";
import { buildXsdt } from "./xsdt.ts";

const ALIGNMENT = 64;

/**
 * Writes all ACPI tables of a machine with `cpuCount` processors into the reserved area below 1 MiB, and answers where
 * the RSDP is. Throws RangeError where the area is too small for them.
 */
export function buildAcpiTables(machine: { readonly memory: GuestMemory; readonly cpuCount: number }): Gpa {
  let free = align(ACPI_TABLES + RSDP_BYTES);
  const place = (table: Uint8Array): Gpa => {
    const address = gpa(free);
    free = align(free + table.length);
    if (free > ACPI_TABLES + ACPI_TABLES_MAX_BYTES) throw new RangeError("ACPI tables exceed their area");
    machine.memory.write(address, table);
    return address;
  };
  const dsdt = place(buildDsdt(pciWindow64(machine.memory.regions)));
  const tables = [place(buildFadt(dsdt)), place(buildMadt(machine.cpuCount)), place(buildMcfg())];
  machine.memory.write(ACPI_TABLES, buildRsdp(place(buildXsdt(tables))));
  return ACPI_TABLES;
}

function align(address: number): number {
  return Math.ceil(address / ALIGNMENT) * ALIGNMENT;
}
