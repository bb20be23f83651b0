import type { Vcpu } from "../kvm/vcpu.ts";
import { type HistogramReport, sumOf } from "../measure/histogram.ts";
import { SysError } from "../sys/errors.ts";
import { EventFd } from "../sys/eventfd.ts";
import { watchFd } from "../sys/fd-watch.ts";
import { VcpuThread } from "../sys/vcpu-thread.ts";
import { PauseAborted } from "./control-surface.ts";

/** What the runner tells of exits. Neither call may throw. */
export interface ExitListener {
  /** The vCPU left the guest, and its run page says why. It goes back when this returns, unless it was halted or stopped. */
  exited(vcpu: Vcpu): void;
  /** KVM_RUN failed: the guest cannot go on. */
  failed(vcpu: Vcpu, error: SysError): void;
}

const EINTR = 4;

/**
 * Exits handled in one turn of the event loop. A guest that does nothing but exit leaves the other half of the turn to
 * the control API and to I/O; with fewer, each exit would pay for a whole turn.
 */
const EXITS_PER_TURN = 16;

interface Processor {
  readonly vcpu: Vcpu;
  readonly thread: VcpuThread;
  /** Invariant: true exactly while the thread has exited, the exit is dealt with, and it was not sent back. */
  parked: boolean;
}

/** Runs the vCPUs on their threads, hands each exit to the listener in the event loop, and gets them out together. */
export class VcpuRunner implements Disposable {
  readonly #listener: ExitListener;
  readonly #exitEvent: EventFd;
  readonly #processors: Processor[] = [];
  readonly #resources: DisposableStack;
  #running = false;
  #halting: { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } | null = null;
  #disposed = false;

  /** The vCPUs stay the caller's, and outlive the runner. None runs before `run`. Throws SysError. */
  constructor(vcpus: readonly Vcpu[], listener: ExitListener) {
    using resources = new DisposableStack();
    this.#listener = listener;
    this.#exitEvent = resources.use(new EventFd());
    for (const vcpu of vcpus) {
      const thread = resources.use(new VcpuThread(vcpu.fd, this.#exitEvent.fd, vcpu.run.hostAddress));
      this.#processors.push({ vcpu, thread, parked: true });
    }
    resources.use(watchFd(this.#exitEvent.fd, { readable: true }, () => this.#onExits()));
    this.#resources = resources.move();
  }

  /** Lets all vCPUs into the guest. */
  run(): void {
    if (this.#disposed) return;
    this.#running = true;
    this.#halting?.reject(new PauseAborted());
    this.#halting = null;
    for (const processor of this.#processors) if (processor.parked) this.#enter(processor);
  }

  /**
   * Gets all vCPUs out of the guest: first all are kicked, then all waited for. Accesses to devices that were under way
   * are finished when it resolves, so that the vCPUs' state can be saved or set. Rejects with PauseAborted.
   */
  halt(): Promise<void> {
    if (this.#disposed) return Promise.reject(new PauseAborted());
    this.#running = false;
    if (this.#processors.every(({ parked }) => parked)) return Promise.resolve();
    if (this.#halting === null) {
      this.#halting = Promise.withResolvers<void>();
      for (const { parked, thread } of this.#processors) if (!parked) thread.kick();
    }
    return this.#halting.promise;
  }

  /** Seconds from exits until their vCPUs were back in the guest, pauses left out; of all vCPUs. */
  get roundTrips(): HistogramReport | null {
    return sumOf(this.#processors.map(({ thread }) => thread.roundTrips));
  }

  /** A vCPU has exited, of which the event loop is told as well. Looks at memory alone. */
  get hasExits(): boolean {
    return this.#processors.some(({ parked, thread }) => !parked && thread.hasExited);
  }

  /** Handles exits. */
  handleExits(): void {
    if (!this.#disposed) this.#onExits();
  }

  #onExits(): void {
    this.#exitEvent.drain();
    for (let handled = 0; handled < EXITS_PER_TURN; ) {
      const before = handled;
      for (const processor of this.#processors) {
        // A listener may have ended it all.
        if (this.#disposed) return;
        if (processor.parked || !processor.thread.hasExited) continue;
        this.#handle(processor);
        handled++;
      }
      if (handled === before) return;
    }
    // What exited since has signalled the event, or does so when it does.
  }

  #handle(processor: Processor): void {
    const { vcpu, thread } = processor;
    vcpu.run.immediateExit = false;
    if (thread.errno === EINTR) {
      // Kicked, and nothing is left undone.
      if (this.#running) this.#enter(processor);
      else this.#park(processor);
      return;
    }
    if (thread.errno !== 0) {
      processor.parked = true;
      this.#listener.failed(vcpu, new SysError("KVM_RUN", thread.errno, `vCPU ${vcpu.index}`));
      return;
    }
    this.#listener.exited(vcpu);
    if (this.#disposed) return;
    // KVM finishes a port or memory access on the way in: when halting, go in just for that.
    if (!this.#running) vcpu.run.immediateExit = true;
    thread.resume();
  }

  #enter(processor: Processor): void {
    processor.parked = false;
    processor.thread.enter();
  }

  #park(processor: Processor): void {
    processor.parked = true;
    if (!this.#processors.every(({ parked }) => parked)) return;
    this.#halting?.resolve();
    this.#halting = null;
  }

  /** Gets all vCPUs out and ends their threads; may be called from the listener. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#halting?.reject(new PauseAborted());
    this.#halting = null;
    this.#resources[Symbol.dispose]();
  }
}
