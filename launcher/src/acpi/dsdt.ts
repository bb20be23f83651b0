import {
  ACPI_EVENT_PCI_SLOTS,
  ACPI_EVENT_POWER_BUTTON,
  ACPI_REGISTERS,
  ACPI_S5_SLEEP_TYPE,
  GSI,
  PCI_BUS_COUNT,
  PCI_ECAM,
  PCI_ECAM_BYTES,
  PCI_PORT_WINDOW,
  PCI_WINDOW32,
  PCI_WINDOW32_BYTES,
  PORTS,
} from "../boot/x86/layout.ts";
import {
  type Aml,
  and,
  andInto,
  argument,
  byteFields,
  call,
  concat,
  createDwordField,
  device,
  eisaId,
  equal,
  give,
  integer,
  local,
  method,
  name,
  not,
  notify,
  orInto,
  otherwise,
  packageOf,
  path,
  portRegion,
  scope,
  store,
  string,
  uuid,
  when,
} from "./aml.ts";
import { PCI_SLOTS_CHANGED, pciHotplug } from "./pci-hotplug.ts";
import { interrupt, ioPorts, memory32, resourceTemplate, window } from "./resources.ts";
import { newTable, sealTable, TABLE_HEADER_BYTES } from "./table.ts";

/** Integers of 64 bits. */
const REVISION = 2;

/** A range of guest-physical addresses. */
export interface PciWindow {
  readonly start: number;
  readonly sizeBytes: number;
}

/** Differentiated System Description Table: the devices that can not be found by probing. */
export function buildDsdt(window64: PciWindow): Uint8Array {
  const sleepType = integer(ACPI_S5_SLEEP_TYPE);
  const aml = concat(
    scope("\\_SB", pciRoot(window64), ecamReservation(), serialPort(), powerButton(), eventDevice(), panicDevice()),
    // All four elements: some guests read past the first (section 7.4.2.6).
    name("\\_S5", packageOf(sleepType, sleepType, integer(0), integer(0))),
  );
  const table = newTable("DSDT", REVISION, TABLE_HEADER_BYTES + aml.length);
  new Uint8Array(table.buffer).set(aml, TABLE_HEADER_BYTES);
  return sealTable(table);
}

const PCI_ROOT = "PCI0";

/** The PCI Express root. Without _PRT: devices have no interrupt pins, only MSI-X. */
function pciRoot(window64: PciWindow): Aml {
  return device(
    PCI_ROOT,
    name("_HID", eisaId("PNP0A08")),
    name("_CID", eisaId("PNP0A03")),
    name("_UID", integer(0)),
    name("_SEG", integer(0)),
    name("_BBN", integer(0)),
    name(
      "_CRS",
      resourceTemplate(
        window("buses", 2, 0, PCI_BUS_COUNT),
        window("ports", 2, PCI_PORT_WINDOW.start, PCI_PORT_WINDOW.sizeBytes),
        window("memory", 4, PCI_WINDOW32, PCI_WINDOW32_BYTES),
        window("memory", 8, window64.start, window64.sizeBytes),
      ),
    ),
    operatingSystemCapabilities(),
    ...pciHotplug(),
  );
}

/** PCI Firmware Specification 3.3, section 4.5.1: the OS gets control of the PCI Express capability structure. */
const HOST_BRIDGE_UUID = "33db4d5b-1ff7-401c-9657-7441c03dd766";
const OSC_CAPABILITY_CONTROL = 0x10;
const OSC_UNKNOWN_UUID = 0x04;
const OSC_UNKNOWN_REVISION = 0x08;

function operatingSystemCapabilities(): Aml {
  const [uuidGiven, revision, capabilities] = [argument(0), argument(1), argument(3)];
  const [status, control] = ["CDW1", "CDW3"];
  const fail = (reason: number) => orInto(path(status), integer(reason), path(status));
  return method(
    "_OSC",
    4,
    true,
    createDwordField(capabilities, 0, status),
    when(
      equal(uuidGiven, uuid(HOST_BRIDGE_UUID)),
      createDwordField(capabilities, 8, control),
      andInto(path(control), integer(OSC_CAPABILITY_CONTROL), path(control)),
      when(not(equal(revision, integer(1))), fail(OSC_UNKNOWN_REVISION)),
    ),
    otherwise(fail(OSC_UNKNOWN_UUID)),
    give(capabilities),
  );
}

/** Linux uses ECAM only where a motherboard resource or the memory map keeps it free. */
function ecamReservation(): Aml {
  return device(
    "ECAM",
    name("_HID", eisaId("PNP0C02")),
    name("_UID", integer(0)),
    name("_CRS", resourceTemplate(memory32(PCI_ECAM, PCI_ECAM_BYTES))),
  );
}

function serialPort(): Aml {
  return device(
    "COM1",
    name("_HID", eisaId("PNP0501")),
    name("_UID", integer(0)),
    name("_DDN", string("COM1")),
    name("_CRS", resourceTemplate(ioPorts(PORTS.com1), interrupt(GSI.com1, "edge"))),
  );
}

const POWER_BUTTON = "PWRB";
/** "Status changed" of a power button: it was pressed (ACPI 6.5, table 5.143). */
const NOTIFY_PRESSED = 0x80;

function powerButton(): Aml {
  return device(POWER_BUTTON, name("_HID", eisaId("PNP0C0C")), name("_UID", integer(0)));
}

/** Generic Event Device (section 5.6.9): a hardware-reduced machine's way to tell the OS of events. */
function eventDevice(): Aml {
  const events = local(0);
  return device(
    "GED_",
    name("_HID", string("ACPI0013")),
    name("_UID", integer(0)),
    name("_CRS", resourceTemplate(interrupt(GSI.ged, "level"))),
    portRegion("EVTR", PORTS.acpi.start + ACPI_REGISTERS.events, 1),
    byteFields("EVTR", "EVTS"),
    method(
      "_EVT",
      1,
      true,
      // One read, which also clears the register and lowers the interrupt.
      store(path("EVTS"), events),
      when(and(events, integer(ACPI_EVENT_POWER_BUTTON)), notify(POWER_BUTTON, integer(NOTIFY_PRESSED))),
      when(and(events, integer(ACPI_EVENT_PCI_SLOTS)), call(`\\_SB.${PCI_ROOT}.${PCI_SLOTS_CHANGED}`)),
    ),
  );
}

/** pvpanic (QEMU, docs/specs/pvpanic.rst): the guest kernel tells of its panic. */
function panicDevice(): Aml {
  return device(
    "PVPN",
    name("_HID", string("QEMU0001")),
    name("_UID", integer(0)),
    name("_CRS", resourceTemplate(ioPorts(PORTS.pvpanic))),
  );
}
