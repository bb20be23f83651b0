import { type Gpa, gpa } from "../../memory/gpa.ts";
import type { MemoryRegion } from "../../memory/guest-memory.ts";

/**
 * The guest-physical map of an x86-64 machine. Each constant says who reads it. All ends are exclusive.
 *
 *   0                  RAM: boot structures below 0x90000, firmware area 0x9fc00..0x100000, kernel from 1 MiB
 *   3 GiB              hole: 32-bit PCI window, ECAM, IOAPIC, LAPIC, KVM's own pages
 *   4 GiB              RAM
 *   end of RAM         64-bit PCI window (from 4 GiB at the least)
 */

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

// Boot structures in low RAM. The guest may reuse all of them once it has read them.

/** Loaded into GDTR by the entry state; the kernel loads its own soon after. */
export const GDT = gpa(0x500);
/** IDTR at entry: limit 0, so any exception before the kernel has its own IDT is a triple fault. */
export const IDT = gpa(0x540);
/** `hvm_start_info`: ebx at a PVH entry. */
export const PVH_START_INFO = gpa(0x6000);
/** `hvm_modlist_entry[]`, which the start info points at. */
export const PVH_MODULES = gpa(0x6040);
/** `struct boot_params`: rsi at a Linux entry. One page; a PVH entry has its memory map there instead. */
export const ZERO_PAGE = gpa(0x7000);
export const PVH_MEMORY_MAP = ZERO_PAGE;
/** rsp at entry; grows down over the page that follows the zero page. */
export const BOOT_STACK = gpa(0x8ff0);
/** cr3 at a Linux 64-bit entry: one PML4, one PDPT, four page directories that map 4 GiB one to one in 2 MiB pages. */
export const PML4 = gpa(0x9000);
export const PDPT = gpa(0xa000);
export const PAGE_DIRECTORIES = gpa(0xb000);
/** How much of guest-physical memory is mapped one to one at a Linux 64-bit entry. */
export const IDENTITY_MAPPED_BYTES = 4 * GIB;
/** The command line, zero-terminated; the zero page and the start info point at it. */
export const COMMAND_LINE = gpa(0x2_0000);
export const COMMAND_LINE_MAX_BYTES = 64 * KIB;

/** End of conventional memory: what lies from here to 1 MiB is reserved in the e820 map. */
export const LOW_RAM_END = gpa(0x9_fc00);
/** RSDP, and the other ACPI tables after it; the zero page and the start info point at the RSDP. */
export const ACPI_TABLES = gpa(0xe_0000);
export const ACPI_TABLES_MAX_BYTES = 0x1_fff0;
/** F000:FFF0, where firmware starts in real mode: code that resets the machine, see reset-vector.ts. */
export const RESET_VECTOR = gpa(0xf_fff0);
/** Kernels are loaded from here on. */
export const HIGH_RAM = gpa(MIB);

// The hole below 4 GiB.

/** RAM below 4 GiB ends here at the latest. */
export const HOLE = gpa(3 * GIB);
export const HOLE_END = gpa(4 * GIB);
/** 32-bit window for BARs: in `_CRS` of the root bridge; the pci part allocates from it. */
export const PCI_WINDOW32 = gpa(3 * GIB);
export const PCI_WINDOW32_BYTES = 0x2000_0000;
/** Ports for BARs: in `_CRS` of the root bridge; no device of ours has any. */
export const PCI_PORT_WINDOW = { start: 0x1000, sizeBytes: 0xf000 } as const;
/** Configuration space of segment 0: MCFG, an e820 reservation and a motherboard resource (PNP0C02) name it. */
export const PCI_ECAM = gpa(0xe000_0000);
/** Buses 0 to PCI_BUS_COUNT - 1; each takes 1 MiB of ECAM. */
export const PCI_BUS_COUNT = 1;
export const PCI_ECAM_BYTES = PCI_BUS_COUNT * MIB;
/** Slot numbers of a bus; slot 0 of bus 0 is the host bridge. */
export const PCI_SLOTS = 32;
/** The in-kernel interrupt controllers' addresses: KVM answers them, the MADT names them. */
export const IOAPIC = gpa(0xfec0_0000);
export const LAPIC = gpa(0xfee0_0000);
/** KVM_SET_IDENTITY_MAP_ADDR (one page) and KVM_SET_TSS_ADDR (three pages): used by KVM on Intel without unrestricted guest. */
export const KVM_IDENTITY_MAP = gpa(0xfffb_c000);
export const KVM_TSS = gpa(0xfffb_d000);

// Above 4 GiB.

/** Fits CPUs of 36 physical address bits, with little memory. */
const PCI_WINDOW64_BYTES = 32 * GIB;

/**
 * 64-bit window for BARs: right behind the RAM, since that is where EDK2 puts them (OvmfPkg/Library/PlatformInitLib,
 * PlatformAddressWidthInitialization for Cloud Hypervisor's host bridge), and it asks nobody.
 */
export function pciWindow64(ram: readonly MemoryRegion[]): { readonly start: Gpa; readonly sizeBytes: number } {
  const end = Math.max(HOLE_END, ...ram.map((region) => region.gpa + region.sizeBytes));
  return { start: gpa(end), sizeBytes: PCI_WINDOW64_BYTES };
}

/** Ports. `sizeBytes` is how many the device answers at. */
export const PORTS = {
  /** i8042: 0x60 data, 0x64 command; two devices in one range would take the PIT and port 0x61 from KVM. */
  i8042Data: { start: 0x60, sizeBytes: 1 },
  i8042Command: { start: 0x64, sizeBytes: 1 },
  cmos: { start: 0x70, sizeBytes: 2 },
  /** POST codes; Linux writes here for its I/O delay. */
  debug: { start: 0x80, sizeBytes: 1 },
  com1: { start: 0x3f8, sizeBytes: 8 },
  pvpanic: { start: 0x505, sizeBytes: 1 },
  /** FADT RESET_REG, SLEEP_CONTROL_REG, SLEEP_STATUS_REG, and the event register that the GED's _EVT reads. */
  acpi: { start: 0x600, sizeBytes: 4 },
  /** PCI hot-plug: what the root's AML reads and writes, see PCI_HOTPLUG_REGISTERS. */
  pciHotplug: { start: 0x610, sizeBytes: 12 },
  /** Power-management timer, for firmware: a hardware-reduced FADT does not name it. */
  pmTimer: { start: 0x608, sizeBytes: 4 },
  /**
   * Mechanism #1 of PCI configuration: the only one that firmware knows before it has read any table. Where it answers,
   * Linux prefers it to ECAM at two exits an access instead of one: left out for kernels that are booted directly.
   */
  pciConfig: { start: 0xcf8, sizeBytes: 8 },
} as const;

/**
 * Offsets in PORTS.acpi, one byte each. EDK2 takes the first one for the sleep control register too, as it is on Cloud
 * Hypervisor (OvmfPkg/Include/IndustryStandard/CloudHv.h): see power-management.ts.
 */
export const ACPI_REGISTERS = { reset: 0, sleepControl: 1, sleepStatus: 2, events: 3 } as const;
/** What the FADT tells the guest to write to the reset register. */
export const ACPI_RESET_VALUE = 0x06;
/** SLP_TYPa of `_S5_`. */
export const ACPI_S5_SLEEP_TYPE = 5;
/** Bits of the event register: read by `_EVT`, cleared by reading. */
export const ACPI_EVENT_POWER_BUTTON = 0x01;
export const ACPI_EVENT_PCI_SLOTS = 0x02;

/**
 * Offsets in PORTS.pciHotplug: 32 bits each, a bit a slot of bus 0, and only whole registers answer. The first two are
 * cleared by reading: slots that came, and slots that the guest is to give up. What it gives up it writes to the third.
 */
export const PCI_HOTPLUG_REGISTERS = { plugged: 0, unplug: 4, eject: 8 } as const;

/** Pins of the IOAPIC. The rest of the 24 are free; MSIs need none. */
export const GSI = {
  com1: 4,
  /** Generic Event Device: level triggered, asserted while the event register is not zero. */
  ged: 5,
} as const;
export const IOAPIC_PINS = 24;

/** RAM runs of a machine with `sizeBytes` of memory (whole pages), in the order they lie in the backing. */
export function ramRegions(sizeBytes: number): MemoryRegion[] {
  const runs: readonly (readonly [start: Gpa, end: number])[] = [
    [gpa(0), HOLE],
    [HOLE_END, Number.POSITIVE_INFINITY],
  ];
  const regions: MemoryRegion[] = [];
  let offsetBytes = 0;
  for (const [start, end] of runs) {
    const runBytes = Math.min(sizeBytes - offsetBytes, end - start);
    if (runBytes <= 0) break;
    regions.push({ gpa: start, sizeBytes: runBytes, offsetBytes });
    offsetBytes += runBytes;
  }
  return regions;
}
