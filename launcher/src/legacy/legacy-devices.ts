import { GSI, PORTS } from "../boot/x86/layout.ts";
import type { CoalescedWrites } from "../kvm/coalesced-port.ts";
import type { IrqLine } from "../kvm/interrupts.ts";
import type { AddressSpace } from "../memory/address-space.ts";
import type { MemoryRegion } from "../memory/guest-memory.ts";
import type { CharacterBackend } from "./character-backend.ts";
import { Cmos } from "./cmos.ts";
import { DebugPort } from "./debug-port.ts";
import { KeyboardController } from "./i8042.ts";
import type { MachineEvents } from "./machine-events.ts";
import { PmTimer } from "./pm-timer.ts";
import { PowerManagement } from "./power-management.ts";
import { pvpanicPort } from "./pvpanic.ts";
import { SerialPort } from "./serial.ts";
import { SerialCoalescing } from "./serial-coalescing.ts";
import type { LegacyState } from "./state.ts";

export interface LegacyRequest {
  readonly ports: AddressSpace;
  /** The line of a GSI of the IOAPIC. */
  readonly irqLine: (gsi: number) => IrqLine;
  readonly console: CharacterBackend;
  /** Has KVM keep byte writes to a port; null where it cannot. */
  readonly coalescedWrites: (port: number) => CoalescedWrites | null;
  readonly ram: readonly MemoryRegion[];
  readonly events: MachineEvents;
}

/** All devices at fixed ports of an x86 machine, put into its port space. */
export class LegacyDevices implements Disposable {
  readonly serial: SerialPort;
  readonly powerManagement: PowerManagement;
  readonly #coalescing: SerialCoalescing;
  readonly #keyboard: KeyboardController;
  readonly #cmos: Cmos;
  readonly #debug = new DebugPort();
  readonly #pmTimer = new PmTimer();
  readonly #ranges = new DisposableStack();

  constructor({ ports, irqLine, console, coalescedWrites, ram, events }: LegacyRequest) {
    this.serial = new SerialPort(irqLine(GSI.com1), console);
    this.#coalescing = new SerialCoalescing(this.serial, coalescedWrites(PORTS.com1.start));
    this.powerManagement = new PowerManagement(irqLine(GSI.ged), events);
    this.#keyboard = new KeyboardController(events);
    this.#cmos = new Cmos(ram);
    const devices = [
      [PORTS.i8042Data, this.#keyboard.dataPort],
      [PORTS.i8042Command, this.#keyboard.commandPort],
      [PORTS.cmos, this.#cmos.ports],
      [PORTS.debug, this.#debug.ports],
      [PORTS.com1, this.#coalescing.ports],
      [PORTS.pvpanic, pvpanicPort(events)],
      [PORTS.acpi, this.powerManagement.ports],
      [PORTS.pmTimer, this.#pmTimer.ports],
    ] as const;
    for (const [{ start, sizeBytes }, handler] of devices) this.#ranges.use(ports.add(start, sizeBytes, handler));
  }

  /** Before an exit is handled: what the guest wrote earlier without leaving reaches its device. */
  collectWrites(): void {
    this.#coalescing.collect();
  }

  /** Hands on what the guest has sent. No vCPU is in the guest. */
  flush(): void {
    this.#coalescing.collect();
    this.serial.flush();
  }

  /** Takes no input until `release`, so that what is saved stays as it is. No vCPU is in the guest. */
  hold(): void {
    this.flush();
    this.serial.hold();
  }

  release(): void {
    this.serial.release();
  }

  /** While it is held. */
  save(): LegacyState {
    return {
      serial: this.serial.save(),
      keyboard: this.#keyboard.save(),
      cmosIndex: this.#cmos.index,
      debugCode: this.#debug.code,
      powerEvents: this.powerManagement.pending,
      pmTimerMs: this.#pmTimer.timeMs,
    };
  }

  /** Of devices that are as after power-on. Raises the interrupt lines as they were. */
  restore(state: LegacyState): void {
    this.serial.restore(state.serial);
    this.#keyboard.restore(state.keyboard);
    this.#cmos.index = state.cmosIndex;
    this.#debug.code = state.debugCode;
    this.powerManagement.restore(state.powerEvents);
    this.#pmTimer.restore(state.pmTimerMs);
  }

  /** As after power-on. */
  reset(): void {
    this.#coalescing.stop();
    this.serial.reset();
    this.powerManagement.reset();
    this.#keyboard.reset();
    this.#cmos.reset();
  }

  /** Takes the devices out of the port space; what the guest has sent is handed on. */
  [Symbol.dispose](): void {
    this.#ranges.dispose();
    this.#coalescing[Symbol.dispose]();
    this.serial[Symbol.dispose]();
  }
}
