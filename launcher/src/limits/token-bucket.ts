/** A rate holds over tenths of a second: what is not used within one is lost. */
const BURST_SECONDS = 0.1;

/**
 * So many a second, and no more than a tenth of a second's worth (or one) at once. What is larger than that is let
 * through as a whole when the bucket is full, and paid for after: nothing is too large to ever have its turn.
 * Times are milliseconds of a clock that does not go back.
 */
export class TokenBucket {
  readonly #perMs: number;
  readonly #burst: number;
  /** Below zero while something large is being paid for. */
  #level: number;
  #atMs: number;

  constructor(perSecond: number, nowMs: number) {
    if (!(perSecond > 0)) throw new RangeError(`a rate of ${perSecond}`);
    this.#perMs = perSecond / 1000;
    this.#burst = Math.max(1, perSecond * BURST_SECONDS);
    this.#level = this.#burst;
    this.#atMs = nowMs;
  }

  /** How long until `amount` may be taken; 0 when it may now. */
  delayMs(amount: number, nowMs: number): number {
    this.#fill(nowMs);
    const missing = Math.min(amount, this.#burst) - this.#level;
    return missing > 0 ? Math.ceil(missing / this.#perMs) : 0;
  }

  take(amount: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#level -= amount;
  }

  #fill(nowMs: number): void {
    this.#level = Math.min(this.#burst, this.#level + Math.max(0, nowMs - this.#atMs) * this.#perMs);
    this.#atMs = Math.max(this.#atMs, nowMs);
  }
}
