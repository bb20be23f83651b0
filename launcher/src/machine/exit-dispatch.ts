import { constants, exitReasons } from "../kvm/layouts.ts";
import type { RunPage } from "../kvm/run-page.ts";
import type { AddressSpace } from "../memory/address-space.ts";
import type { ExitCounter } from "./exit-counter.ts";

/** What an exit means for the machine as a whole, where it means anything. */
export interface GuestEvents {
  /** The processor shut down: an exception while it handled one while it handled one. */
  tripleFault(): void;
  powerOff(): void;
  reset(): void;
  /** The guest cannot go on; `message` says why, for people. */
  unrunnable(message: string): void;
}

export interface ExitDispatchTargets {
  readonly ports: AddressSpace;
  readonly mmio: AddressSpace;
  readonly events: GuestEvents;
  readonly counter: ExitCounter;
}

/** Takes each exit to the device that answers it. */
export class ExitDispatch {
  readonly #targets: ExitDispatchTargets;

  constructor(targets: ExitDispatchTargets) {
    this.#targets = targets;
  }

  /** Handles the exit that `run` describes. */
  dispatch(run: RunPage): void {
    const { counter, events, mmio } = this.#targets;
    switch (run.exitReason) {
      case exitReasons.KVM_EXIT_IO:
        this.#port(run);
        return;
      case exitReasons.KVM_EXIT_MMIO:
        counter.kind("mmio");
        if (run.mmioIsWrite) mmio.write(run.mmioAddress, run.mmioData());
        else mmio.read(run.mmioAddress, run.mmioData());
        return;
      case exitReasons.KVM_EXIT_HLT:
        // Only where the local APIC is not the kernel's; then going on is a wake-up too many, which HLT allows.
        counter.kind("hlt");
        return;
      case exitReasons.KVM_EXIT_INTR:
        counter.kind("interrupted");
        return;
      case exitReasons.KVM_EXIT_SHUTDOWN:
        counter.kind("shutdown");
        events.tripleFault();
        return;
      case exitReasons.KVM_EXIT_SYSTEM_EVENT:
        counter.kind("system-event");
        this.#systemEvent(run);
        return;
      default:
        counter.kind("failure");
        events.unrunnable(run.describeFailure());
    }
  }

  /** One element at a time: a string instruction (`rep outsb`) brings many in one exit. */
  #port(run: RunPage): void {
    const { counter, ports } = this.#targets;
    const port = run.ioPort;
    const isWrite = run.ioIsWrite;
    counter.port(port);
    for (let i = 0, count = run.ioCount; i < count; i++) {
      if (isWrite) ports.write(port, run.ioData(i));
      else ports.read(port, run.ioData(i));
    }
  }

  #systemEvent(run: RunPage): void {
    const { events } = this.#targets;
    switch (run.systemEventType) {
      case constants.KVM_SYSTEM_EVENT_SHUTDOWN:
        events.powerOff();
        return;
      case constants.KVM_SYSTEM_EVENT_RESET:
        events.reset();
        return;
      default:
        events.unrunnable(`the guest raised system event ${run.systemEventType}, which is not expected`);
        return;
    }
  }
}
