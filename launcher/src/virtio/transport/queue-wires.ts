import type { MsiWire, MsiWires } from "../../kvm/interrupts.ts";
import type { Msix } from "../../pci/msix.ts";
import type { EventFd } from "../../sys/eventfd.ts";
import { type FdWatch, watchFd } from "../../sys/fd-watch.ts";

export interface QueueWiresParts {
  readonly msix: Msix;
  /** Without, each signal takes the way through the event loop. */
  readonly wires: MsiWires | undefined;
  readonly vectorOf: (queueIndex: number) => number;
  /** As if this process had filled the queue. */
  readonly interrupt: (queueIndex: number) => void;
}

/**
 * Interrupts of queues that somebody else fills: vhost-net, which signals an eventfd. Where the queue has a vector, KVM
 * turns the signal into its message by itself. While the vector is masked the signal waits in the eventfd, so that none is
 * lost; without MSI-X, and without a vector, the event loop takes it.
 */
export class QueueWires {
  readonly #parts: QueueWiresParts;
  readonly #connected = new Set<QueueWire>();

  constructor(parts: QueueWiresParts) {
    this.#parts = parts;
    parts.msix.onChange = () => this.update();
    parts.msix.beforePendingRead = () => this.#collect();
  }

  /** From now on a signal of `event` interrupts the driver for the queue. What it holds at the end does, too. */
  connect(queueIndex: number, event: EventFd): Disposable {
    const wire = new QueueWire(queueIndex, event, this.#parts);
    this.#connected.add(wire);
    wire.update();
    return {
      [Symbol.dispose]: () => {
        if (this.#connected.delete(wire)) wire[Symbol.dispose]();
      },
    };
  }

  /** Vectors, masks or messages have changed. */
  update(): void {
    for (const wire of this.#connected) wire.update();
  }

  /** What waits behind a mask is in the table's pending bits when somebody looks at them. */
  #collect(): void {
    for (const wire of this.#connected) wire.collect();
  }

  /** The driver is gone: its queues interrupt no more. */
  drop(): void {
    for (const wire of this.#connected) wire[Symbol.dispose]();
    this.#connected.clear();
  }
}

class QueueWire implements Disposable {
  readonly #queueIndex: number;
  readonly #event: EventFd;
  readonly #parts: QueueWiresParts;
  readonly #wire: MsiWire | null;
  readonly #watch: FdWatch;
  #isWatched = true;

  constructor(queueIndex: number, event: EventFd, parts: QueueWiresParts) {
    this.#queueIndex = queueIndex;
    this.#event = event;
    this.#parts = parts;
    this.#wire = parts.wires?.wire(event) ?? null;
    this.#watch = watchFd(event.fd, { readable: true }, () => this.#take());
    this.#watch.unref();
  }

  update(): void {
    const { msix, vectorOf } = this.#parts;
    const vector = vectorOf(this.#queueIndex);
    const isWired = this.#wire !== null && msix.enabled && vector < msix.vectorCount;
    // One of the two reads the eventfd, never both.
    if (isWired) this.#setWatched(false);
    this.#wire?.set(isWired ? msix.message(vector) : null);
    if (!isWired) this.#setWatched(true);
  }

  collect(): void {
    const { msix, vectorOf } = this.#parts;
    if (!this.#isWatched && msix.message(vectorOf(this.#queueIndex)) === null) this.#take();
  }

  #take(): void {
    if (this.#event.drain()) this.#parts.interrupt(this.#queueIndex);
  }

  #setWatched(isWatched: boolean): void {
    if (isWatched === this.#isWatched) return;
    this.#isWatched = isWatched;
    if (isWatched) this.#watch.resume();
    else this.#watch.pause();
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#wire?.[Symbol.dispose]();
    this.#take();
  }
}
