import {
  ACPI_EVENT_PCI_SLOTS,
  ACPI_EVENT_POWER_BUTTON,
  ACPI_REGISTERS,
  ACPI_RESET_VALUE,
  ACPI_S5_SLEEP_TYPE,
} from "../boot/x86/layout.ts";
import type { IrqLine } from "../kvm/interrupts.ts";
import type { RangeHandler } from "../memory/address-space.ts";
import { type ByteRegisters, byteWise } from "./byte-registers.ts";
import type { MachineEvents } from "./machine-events.ts";

/** SLEEP_CONTROL_REG (ACPI 6.5, table 4.21): type in bits 2 to 4, enable in bit 5. */
const SLEEP_TYPE_SHIFT = 2;
const SLEEP_TYPE_MASK = 0x07;
const SLEEP_ENABLE = 0x20;

/**
 * The ports that the FADT and the event device's _EVT name: reset, sleep, and what happened.
 * The interrupt is level triggered and stays until the guest has read the events, so a press during boot is not lost.
 */
export class PowerManagement implements ByteRegisters {
  readonly ports: RangeHandler = byteWise(this);
  readonly #irq: IrqLine;
  readonly #events: Pick<MachineEvents, "onPowerOff" | "onReset">;
  #pending = 0;

  constructor(irq: IrqLine, events: Pick<MachineEvents, "onPowerOff" | "onReset">) {
    this.#irq = irq;
    this.#events = events;
  }

  /** The guest may take it as a wish, or ignore it. */
  pressPowerButton(): void {
    this.#raise(ACPI_EVENT_POWER_BUTTON);
  }

  /** There is something in the registers of PCI hot-plug. */
  tellOfPciSlots(): void {
    this.#raise(ACPI_EVENT_PCI_SLOTS);
  }

  #raise(event: number): void {
    this.#pending |= event;
    this.#irq.setLevel(true);
  }

  /** Events that the guest has not read. */
  get pending(): number {
    return this.#pending;
  }

  restore(pending: number): void {
    this.#pending = pending & (ACPI_EVENT_POWER_BUTTON | ACPI_EVENT_PCI_SLOTS);
    this.#irq.setLevel(this.#pending !== 0);
  }

  reset(): void {
    this.#pending = 0;
    this.#irq.setLevel(false);
  }

  readRegister(offset: number): number {
    switch (offset) {
      case ACPI_REGISTERS.events: {
        const pending = this.#pending;
        this.reset();
        return pending;
      }
      // Sleep control's enable bit is write-only, and no wake-up is ever reported in sleep status.
      case ACPI_REGISTERS.reset:
      case ACPI_REGISTERS.sleepControl:
      case ACPI_REGISTERS.sleepStatus:
        return 0;
      default:
        return 0xff;
    }
  }

  writeRegister(offset: number, value: number): void {
    const isReset = offset === ACPI_REGISTERS.reset;
    if (isReset && value === ACPI_RESET_VALUE) this.#events.onReset();
    if (offset === ACPI_REGISTERS.sleepControl && isPowerOff(value)) this.#events.onPowerOff();
    // EDK2 reads no FADT: it writes to where Cloud Hypervisor has both registers in one.
    if (isReset && value === (SLEEP_ENABLE | (ACPI_S5_SLEEP_TYPE << SLEEP_TYPE_SHIFT))) this.#events.onPowerOff();
  }
}

function isPowerOff(sleepControl: number): boolean {
  if ((sleepControl & SLEEP_ENABLE) === 0) return false;
  return ((sleepControl >>> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK) === ACPI_S5_SLEEP_TYPE;
}
