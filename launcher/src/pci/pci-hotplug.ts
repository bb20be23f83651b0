import { PCI_HOTPLUG_REGISTERS } from "../boot/x86/layout.ts";
import type { RangeHandler } from "../memory/address-space.ts";
import type { PciHotplugState } from "./state.ts";

export interface PciHotplugEvents {
  /** There is something to read: the guest is to be interrupted. */
  changed(): void;
  /** The guest gave up the device in a slot that it was asked to give up. From within the handling of an exit. */
  ejected(slot: number): void;
}

/**
 * The registers of PCI hot-plug, which the guest's AML reads and writes (acpi/pci-hotplug.ts): which slots came, which
 * are to be given up, and which the guest has given up. A bit a slot. What is not yet read stays for whoever looks next, so
 * that a guest that boots meanwhile misses nothing.
 */
export class PciHotplug {
  readonly #events: PciHotplugEvents;
  /** Not yet read by the guest. */
  #plugged = 0;
  #unplug = 0;
  /** Slots that the guest was asked to give up and has not: it can eject no others. */
  #asked = 0;

  constructor(events: PciHotplugEvents) {
    this.#events = events;
  }

  /** A device has come into the slot. */
  plug(slot: number): void {
    this.#plugged |= 1 << slot;
    this.#events.changed();
  }

  /** Asks the guest to give up the device in the slot; again where it was asked before. */
  askForEject(slot: number): void {
    this.#unplug |= 1 << slot;
    this.#asked |= 1 << slot;
    this.#events.changed();
  }

  /** As after power-on: a guest that starts finds what there is by itself. */
  reset(): void {
    this.#plugged = 0;
    this.#unplug = 0;
    this.#asked = 0;
  }

  save(): PciHotplugState {
    return { plugged: this.#plugged >>> 0, unplug: this.#unplug >>> 0, asked: this.#asked >>> 0 };
  }

  /** The guest's interrupt is the power management's. */
  restore({ plugged, unplug, asked }: PciHotplugState): void {
    this.#plugged = plugged;
    this.#unplug = unplug;
    this.#asked = asked;
  }

  /** PORTS.pciHotplug. */
  readonly ports: RangeHandler = {
    read: (offset, data) => {
      if (data.length === 4 && offset % 4 === 0) view(data).setUint32(0, this.#take(offset), true);
      else data.fill(0xff);
    },
    write: (offset, data) => {
      if (data.length === 4 && offset === PCI_HOTPLUG_REGISTERS.eject) this.#eject(view(data).getUint32(0, true));
    },
  };

  #take(offset: number): number {
    const { plugged, unplug } = PCI_HOTPLUG_REGISTERS;
    const value = offset === plugged ? this.#plugged : offset === unplug ? this.#unplug : 0;
    if (offset === plugged) this.#plugged = 0;
    if (offset === unplug) this.#unplug = 0;
    return value >>> 0;
  }

  #eject(slots: number): void {
    const given = slots & this.#asked;
    this.#asked &= ~given;
    this.#unplug &= ~given;
    this.#plugged &= ~given;
    for (let slot = 0; slot < 32; slot++) if ((given & (1 << slot)) !== 0) this.#events.ejected(slot);
  }
}

function view(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}
