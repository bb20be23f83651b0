import type { AddressSpace } from "../../memory/address-space.ts";
import type { PciFunction } from "../../pci/pci-function.ts";

const CAPABILITY_ID_VENDOR = 0x09;

/** cfg_type, virtio 1.2 section 4.1.4. */
export const CapabilityType = { common: 1, notify: 2, isr: 3, device: 4, pciConfig: 5 } as const;
export type CapabilityType = (typeof CapabilityType)[keyof typeof CapabilityType];

/** A part of a BAR that a capability points at. */
export interface Structure {
  readonly type: CapabilityType;
  readonly bar: number;
  readonly offset: number;
  readonly lengthBytes: number;
}

// struct virtio_pci_cap: offsets from its start.
const LENGTH_OF_CAPABILITY = 2;
const TYPE = 3;
const BAR = 4;
const OFFSET = 8;
const LENGTH = 12;
/** notify_off_multiplier or pci_cfg_data. */
const EXTRA = 16;

/** Adds a capability that points at `structure`; `extra` is the dword after it. Answers its offset. */
export function addVirtioCapability(pci: PciFunction, structure: Structure, extra?: number): number {
  return pci.addCapability(CAPABILITY_ID_VENDOR, capabilityBody(structure, extra));
}

/**
 * Section 4.1.4.9: access to the BAR by configuration space, for firmware that cannot reach memory. An access that the
 * capability's fields do not describe as a 1, 2 or 4 byte one inside the BAR does nothing.
 */
export function addPciConfigCapability(pci: PciFunction, bar: number, barSizeBytes: number, space: AddressSpace): void {
  const body = capabilityBody({ type: CapabilityType.pciConfig, bar: 0, offset: 0, lengthBytes: 0 }, 0);
  const writable = new Uint8Array(body.length);
  for (const field of [BAR, ...bytes(OFFSET, 4), ...bytes(LENGTH, 4), ...bytes(EXTRA, 4)]) writable[field - 2] = 0xff;
  const target = (offset: number, data: Uint8Array): number | null => {
    const at = pci.load(start + OFFSET, 4);
    const lengthBytes = pci.load(start + LENGTH, 4);
    const isSound = pci.load(start + BAR, 1) === bar && lengthBytes === data.length && at % lengthBytes === 0;
    return offset === EXTRA && isSound && at + lengthBytes <= barSizeBytes ? at : null;
  };
  const start: number = pci.addCapability(CAPABILITY_ID_VENDOR, body, writable, {
    read: (offset, data) => {
      const at = target(offset, data);
      if (at !== null) space.read(at, data);
    },
    written: (offset, data) => {
      const at = target(offset, data);
      if (at !== null) space.write(at, data);
    },
  });
}

function bytes(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

/** All of the capability but the id and next bytes. */
function capabilityBody(structure: Structure, extra: number | undefined): Uint8Array {
  const whole = new DataView(new ArrayBuffer(extra === undefined ? EXTRA : EXTRA + 4));
  whole.setUint8(LENGTH_OF_CAPABILITY, whole.byteLength);
  whole.setUint8(TYPE, structure.type);
  whole.setUint8(BAR, structure.bar);
  whole.setUint32(OFFSET, structure.offset, true);
  whole.setUint32(LENGTH, structure.lengthBytes, true);
  if (extra !== undefined) whole.setUint32(EXTRA, extra, true);
  return new Uint8Array(whole.buffer, 2);
}
