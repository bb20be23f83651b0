import { PCI_HOTPLUG_REGISTERS, PCI_SLOTS, PORTS } from "../boot/x86/layout.ts";
import {
  type Aml,
  and,
  argument,
  call,
  device,
  dwordFields,
  integer,
  method,
  name,
  notify,
  path,
  portRegion,
  store,
  when,
} from "./aml.ts";

/** Method of the PCI root that the event device calls: tells the OS of the slots that changed. */
export const PCI_SLOTS_CHANGED = "PCNT";

const REGION = "PHPR";
/** In the order of PCI_HOTPLUG_REGISTERS. */
const FIELDS = { plugged: "PCIU", unplug: "PCID", eject: "B0EJ" } as const;
const TELL = "DVNT";
/** ACPI 6.5, table 5.142. */
const NOTIFY_DEVICE_CHECK = 1;
const NOTIFY_EJECT_REQUEST = 3;

/**
 * Terms of the PCI root by which devices come and go while the OS runs. Each slot is a device that can be ejected; there
 * is no _STA, since an OS asks the slot's configuration space then, which costs nothing while it boots.
 */
export function pciHotplug(): Aml[] {
  const slots = Array.from({ length: PCI_SLOTS - 1 }, (_, index) => index + 1);
  const [mask, event] = [argument(0), argument(1)];
  return [
    portRegion(REGION, PORTS.pciHotplug.start, PORTS.pciHotplug.sizeBytes),
    dwordFields(REGION, ...inOrder()),
    ...slots.map(slotDevice),
    method(TELL, 2, false, ...slots.map((slot) => when(and(mask, slotBit(slot)), notify(slotName(slot), event)))),
    method(
      PCI_SLOTS_CHANGED,
      0,
      true,
      call(TELL, path(FIELDS.plugged), integer(NOTIFY_DEVICE_CHECK)),
      call(TELL, path(FIELDS.unplug), integer(NOTIFY_EJECT_REQUEST)),
    ),
  ];
}

function inOrder(): string[] {
  const registers = ["plugged", "unplug", "eject"] as const;
  return registers
    .toSorted((a, b) => PCI_HOTPLUG_REGISTERS[a] - PCI_HOTPLUG_REGISTERS[b])
    .map((register) => FIELDS[register]);
}

function slotDevice(slot: number): Aml {
  return device(
    slotName(slot),
    name("_ADR", integer(slot * 2 ** 16)),
    // What Linux calls the slot in /sys/bus/pci/slots, and names network interfaces after.
    name("_SUN", integer(slot)),
    method("_EJ0", 1, true, store(slotBit(slot), path(FIELDS.eject))),
  );
}

const slotName = (slot: number): string => `S${slot.toString(16).toUpperCase().padStart(3, "0")}`;
const slotBit = (slot: number): Aml => integer(2 ** slot);
