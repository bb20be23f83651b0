import { doubling } from "./back-off.ts";
import type { Clock } from "./clock.ts";
import type { WorkQueueMetrics } from "./work-queue-metrics.ts";

export interface WorkQueueOptions {
  /** Name in metrics. */
  readonly name: string;
  readonly clock: Clock;
  readonly metrics?: WorkQueueMetrics;
  readonly minBackoffMs?: number;
  readonly maxBackoffMs?: number;
}

/** Longest that an event for a key in back-off is held back. */
const HOT_KEY_DELAY_MS = 1_000;

/**
 * Keys to be worked on: each at most once in the queue, and by at most one worker at a time. A key added while it is
 * being worked on comes again afterwards.
 *
 * Invariant: a key is in #queue only if it is in #dirty and not in #processing.
 */
export class WorkQueue {
  readonly #clock: Clock;
  readonly #metrics: WorkQueueMetrics | undefined;
  readonly #minBackoffMs: number;
  readonly #maxBackoffMs: number;
  readonly #queue: string[] = [];
  readonly #dirty = new Map<string, number>();
  readonly #processing = new Map<string, number>();
  readonly #failures = new Map<string, number>();
  /** After a failure no event brings the key back before this, so that a hot source cannot defeat the back-off. */
  readonly #notBefore = new Map<string, number>();
  /** The earliest timer of each key; later ones are not needed, since a pass asks again for what it waits for. */
  readonly #timers = new Map<string, { readonly dueAt: number; readonly timer: Disposable }>();
  readonly #idleWorkers: ((key: string | undefined) => void)[] = [];
  #closed = false;

  constructor(options: WorkQueueOptions) {
    this.#clock = options.clock;
    this.#metrics = options.metrics;
    this.#minBackoffMs = options.minBackoffMs ?? 100;
    this.#maxBackoffMs = options.maxBackoffMs ?? 60_000;
    this.#metrics?.bind({
      depth: () => this.#queue.length,
      processingSince: () => [...this.#processing.values()],
      now: () => this.#clock.monotonic(),
    });
  }

  /** Keys waiting for a worker. */
  get length(): number {
    return this.#queue.length;
  }

  /** Adds a key now, unless it already waits; soon, when it has just failed. */
  add(key: string): void {
    if (this.#closed || this.#dirty.has(key)) {
      return;
    }
    const now = this.#clock.monotonic();
    const notBefore = this.#notBefore.get(key) ?? 0;
    if (notBefore > now) {
      this.addAfter(key, notBefore - now);
      return;
    }
    this.#dirty.set(key, now);
    this.#metrics?.added();
    if (!this.#processing.has(key)) {
      this.#queue.push(key);
      this.#wake();
    }
  }

  /** Adds a key after a while, unless it already comes earlier than that by another timer. */
  addAfter(key: string, delayMs: number): void {
    if (this.#closed) {
      return;
    }
    const dueAt = this.#clock.monotonic() + delayMs;
    const existing = this.#timers.get(key);
    if (existing !== undefined && existing.dueAt <= dueAt) {
      return;
    }
    existing?.timer[Symbol.dispose]();
    const timer = this.#clock.after(delayMs, () => {
      this.#timers.delete(key);
      this.add(key);
    });
    this.#timers.set(key, { dueAt, timer });
  }

  /** Adds a key again after a failure: later with each failure in a row. */
  retry(key: string): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.#metrics?.retried();
    const delayMs = doubling(this.#minBackoffMs, this.#maxBackoffMs, failures + 1);
    this.#notBefore.set(key, this.#clock.monotonic() + Math.min(delayMs, HOT_KEY_DELAY_MS));
    this.addAfter(key, delayMs);
  }

  /** Ends a row of failures. */
  forget(key: string): void {
    this.#failures.delete(key);
    this.#notBefore.delete(key);
  }

  /** Failures in a row of a key. */
  failures(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /**
   * Runs `count` workers until the queue is closed and what they hold is done. A key whose work throws comes again
   * after its back-off, and `onError` is told.
   */
  async run(
    count: number,
    work: (key: string) => Promise<void>,
    onError: (key: string, error: unknown) => void,
  ): Promise<void> {
    const worker = async () => {
      for (let key = await this.#take(); key !== undefined; key = await this.#take()) {
        try {
          await work(key);
          this.forget(key);
        } catch (error) {
          onError(key, error);
          this.retry(key);
        } finally {
          this.#done(key);
        }
      }
    };
    await Promise.all(Array.from({ length: count }, worker));
  }

  /** Takes no more keys, and lets the workers end. */
  close(): void {
    this.#closed = true;
    this.#queue.length = 0;
    this.#dirty.clear();
    for (const { timer } of this.#timers.values()) {
      timer[Symbol.dispose]();
    }
    this.#timers.clear();
    for (const resolve of this.#idleWorkers.splice(0)) {
      resolve(undefined);
    }
  }

  async #take(): Promise<string | undefined> {
    while (!this.#closed) {
      const key = this.#queue.shift();
      if (key !== undefined) {
        return this.#start(key);
      }
      const { promise, resolve } = Promise.withResolvers<string | undefined>();
      this.#idleWorkers.push(resolve);
      await promise;
    }
    return undefined;
  }

  #start(key: string): string {
    const now = this.#clock.monotonic();
    this.#metrics?.started((now - (this.#dirty.get(key) ?? now)) / 1000);
    this.#dirty.delete(key);
    this.#processing.set(key, now);
    return key;
  }

  #done(key: string): void {
    const now = this.#clock.monotonic();
    this.#metrics?.finished((now - (this.#processing.get(key) ?? now)) / 1000);
    this.#processing.delete(key);
    if (this.#dirty.has(key)) {
      this.#queue.push(key);
      this.#wake();
    }
  }

  #wake(): void {
    this.#idleWorkers.shift()?.(undefined);
  }
}
