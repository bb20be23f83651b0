export interface ConvergenceOptions {
  /** What the last pass may take. */
  readonly budgetMs: number;
  readonly autoConverge: boolean;
}

export interface PassMeasure {
  readonly sentBytes: number;
  readonly tookMs: number;
  /** Written while the pass went on: what the next one has to send. */
  readonly dirtyBytes: number;
}

export interface PassRates {
  readonly bytesPerSecond: number;
  readonly dirtyBytesPerSecond: number;
}

// As QEMU's: start at a fifth of the time, and a tenth more each time that it does not help.
const FIRST_THROTTLE = 0.2;
const THROTTLE_STEP = 0.1;
const MAX_THROTTLE = 0.99;
/** A guest that dirties less than this share of what is sent meanwhile comes to an end by itself. */
const CONVERGING = 0.5;
/** So small a rest is not worth another pass, however slow the link was found to be. */
const TRIFLE_BYTES = 64 * 4096;
/** Passes that send less measure the way there and back rather than the link. */
const MEASURABLE_BYTES = 2 ** 20;

/** Decides after each pass, from what was measured, whether the next one is the last, and how far to hold the guest back. */
export class Convergence {
  readonly #options: ConvergenceOptions;
  #last: PassRates | null = null;
  #throttle = 0;
  #passes = 0;

  constructor(options: ConvergenceOptions) {
    this.#options = options;
  }

  get last(): PassRates | null {
    return this.#last;
  }

  get throttle(): number {
    return this.#throttle;
  }

  passed({ sentBytes, tookMs, dirtyBytes }: PassMeasure): { readonly isLast: boolean; readonly throttle: number } {
    this.#passes++;
    const seconds = Math.max(tookMs, 0.1) / 1000;
    const measured = sentBytes / seconds;
    const isMeasurable = sentBytes >= MEASURABLE_BYTES || this.#last === null;
    const bytesPerSecond = isMeasurable ? measured : (this.#last?.bytesPerSecond ?? measured);
    this.#last = { bytesPerSecond, dirtyBytesPerSecond: dirtyBytes / seconds };
    const lastPassMs = bytesPerSecond > 0 ? (dirtyBytes / bytesPerSecond) * 1000 : Number.POSITIVE_INFINITY;
    if (dirtyBytes <= TRIFLE_BYTES || lastPassMs <= this.#options.budgetMs)
      return { isLast: true, throttle: this.#throttle };
    // The first pass is long, and says little of how the guest behaves in a short one.
    if (this.#options.autoConverge && this.#passes > 2 && dirtyBytes > CONVERGING * sentBytes)
      this.#throttle = this.#throttle === 0 ? FIRST_THROTTLE : Math.min(MAX_THROTTLE, this.#throttle + THROTTLE_STEP);
    return { isLast: false, throttle: this.#throttle };
  }
}
