import type { LogFields, Logger } from "../log/logger.ts";

/** Warnings that a guest can cause: a few at once, then one a while, so that it cannot fill the node's disk. */
export class LimitedLog {
  readonly #log: Logger;
  readonly #now: () => number;
  #tokens = BURST;
  #refilledMs: number;
  #suppressed = 0;

  /** `now` answers milliseconds. */
  constructor(log: Logger, now: () => number) {
    this.#log = log;
    this.#now = now;
    this.#refilledMs = now();
  }

  warn(message: string, fields: LogFields): void {
    const earned = Math.floor((this.#now() - this.#refilledMs) / REFILL_MS);
    this.#tokens = Math.min(BURST, this.#tokens + earned);
    this.#refilledMs += earned * REFILL_MS;
    if (this.#tokens === 0) {
      this.#suppressed++;
      return;
    }
    this.#tokens--;
    this.#log.warn(message, this.#suppressed > 0 ? { ...fields, suppressed: this.#suppressed } : fields);
    this.#suppressed = 0;
  }
}

const BURST = 10;
const REFILL_MS = 10_000;
