import { ACPI_REGISTERS, ACPI_RESET_VALUE, PORTS } from "../boot/x86/layout.ts";
import type { Gpa } from "../memory/gpa.ts";
import { newTable, putText, sealTable } from "./table.ts";

/** Offsets of the fields that a hardware-reduced machine fills in (ACPI 6.5, table 5.9). */
const FADT = {
  profile: 45,
  c2LatencyUs: 96,
  c3LatencyUs: 98,
  bootArchitecture: 109,
  flags: 112,
  resetRegister: 116,
  resetValue: 128,
  minorVersion: 131,
  dsdt: 140,
  sleepControl: 244,
  sleepStatus: 256,
  hypervisor: 268,
  sizeBytes: 276,
} as const;

const REVISION = 6;
const MINOR_VERSION = 5;
const PROFILE_ENTERPRISE_SERVER = 4;
/** Latencies above 100 and 1000 µs mean that there is no such state. */
const NO_C2 = 101;
const NO_C3 = 1001;

/** Table 5.10. PWR_BUTTON and SLP_BUTTON mean: not as fixed hardware. */
const FLAGS = {
  wbinvd: 1 << 0,
  c1: 1 << 2,
  noFixedPowerButton: 1 << 4,
  noFixedSleepButton: 1 << 5,
  noFixedRtcWake: 1 << 6,
  resetRegister: 1 << 10,
  headless: 1 << 12,
  hardwareReduced: 1 << 20,
} as const;

/**
 * Table 5.11. The keyboard controller's and legacy devices' bits are clear and the CMOS clock's is set, so that Linux
 * leaves them alone: probing them would cost 100,000 exits. They answer nevertheless, for guests that do not look here.
 */
const BOOT_ARCHITECTURE = { vgaNotPresent: 1 << 2, noAspm: 1 << 4, cmosRtcNotPresent: 1 << 5 } as const;

/** Fixed ACPI Description Table: what the machine does without AML, which is reset and power-off. */
export function buildFadt(dsdt: Gpa): Uint8Array {
  const table = newTable("FACP", REVISION, FADT.sizeBytes);
  table.setUint8(FADT.profile, PROFILE_ENTERPRISE_SERVER);
  table.setUint16(FADT.c2LatencyUs, NO_C2, true);
  table.setUint16(FADT.c3LatencyUs, NO_C3, true);
  table.setUint16(FADT.bootArchitecture, allOf(BOOT_ARCHITECTURE), true);
  table.setUint32(FADT.flags, allOf(FLAGS), true);
  putByteRegister(table, FADT.resetRegister, PORTS.acpi.start + ACPI_REGISTERS.reset);
  table.setUint8(FADT.resetValue, ACPI_RESET_VALUE);
  table.setUint8(FADT.minorVersion, MINOR_VERSION);
  table.setBigUint64(FADT.dsdt, BigInt(dsdt), true);
  putByteRegister(table, FADT.sleepControl, PORTS.acpi.start + ACPI_REGISTERS.sleepControl);
  putByteRegister(table, FADT.sleepStatus, PORTS.acpi.start + ACPI_REGISTERS.sleepStatus);
  putText(table, FADT.hypervisor, "TYPVISOR");
  return sealTable(table);
}

function allOf(flags: Readonly<Record<string, number>>): number {
  return Object.values(flags).reduce((sum, flag) => sum | flag, 0);
}

/** Generic Address Structure (section 5.2.3.2) of an 8-bit port. */
function putByteRegister(table: DataView, offset: number, port: number): void {
  table.setUint8(offset, 1);
  table.setUint8(offset + 1, 8);
  table.setUint8(offset + 3, 1);
  table.setBigUint64(offset + 4, BigInt(port), true);
}
