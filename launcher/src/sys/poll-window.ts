/** The shortest window: less is not worth its beginning. */
const SHORTEST_MS = 0.004;
/** What an event may take until the event loop hears of it, processors that have to wake up included. */
const WAKE_MS = 0.1;
const PATIENCE_LIMIT = 256;
/** What may be spent at once of the share, in time that it accrues in. */
const BURST_MS = 10;

export interface PollSettings {
  /** The longest time to look for the next work before sleeping. */
  readonly windowMs: number;
  /** How much of one processor's time may go into looking, 0 to 1. */
  readonly share: number;
}

/**
 * How long to look for the next work before sleeping: longer while it comes soon after the last, not at all where it does
 * not, and never more than a share of the time.
 */
export class PollWindow {
  readonly #settings: PollSettings;
  #ms = 0;
  /** Looking was in vain the last time. */
  #hasMissed = false;
  #wokenAtMs = Number.NEGATIVE_INFINITY;
  /** How often work has to come soon before looking for it is tried again. Invariant: 1 to PATIENCE_LIMIT. */
  #patience = 1;
  #soonCount = 0;
  /** What may be spent on looking. */
  #budgetMs: number;
  #budgetAtMs = Number.NEGATIVE_INFINITY;

  constructor(settings: PollSettings) {
    this.#settings = settings;
    this.#budgetMs = BURST_MS * settings.share;
  }

  /** 0: not to look at all. */
  get ms(): number {
    return this.#ms;
  }

  /** The loop was woken for work: nobody looked, or not for long enough. */
  woken(nowMs: number): void {
    const isSoon = nowMs - this.#wokenAtMs <= this.#settings.windowMs + WAKE_MS;
    const hasMissed = this.#hasMissed;
    this.#wokenAtMs = nowMs;
    this.#hasMissed = false;
    if (!isSoon) this.#ms = 0;
    else if (this.#ms === 0) this.#tryAgain();
    else if (hasMissed) this.#widen();
  }

  /** Work was found after looking for `lookedMs`. */
  found(nowMs: number, lookedMs: number): void {
    this.#spend(nowMs, lookedMs);
    this.#wokenAtMs = nowMs;
    this.#patience = 1;
    if (lookedMs > this.#ms / 2) this.#ms = Math.min(this.#settings.windowMs, 2 * this.#ms);
  }

  /** Looking for `lookedMs` was in vain, and ends. */
  missed(nowMs: number, lookedMs: number): void {
    this.#spend(nowMs, lookedMs);
    this.#hasMissed = lookedMs >= this.#ms;
  }

  /** Whether to look on after `lookedMs` in vain. */
  mayLook(nowMs: number, lookedMs: number): boolean {
    if (lookedMs >= this.#ms) return false;
    this.#accrue(nowMs);
    return this.#budgetMs >= this.#ms;
  }

  #tryAgain(): void {
    if (++this.#soonCount >= this.#patience) this.#ms = Math.min(this.#settings.windowMs, SHORTEST_MS);
  }

  /** Work came soon, but after the window. */
  #widen(): void {
    const { windowMs } = this.#settings;
    if (this.#ms < windowMs) {
      this.#ms = Math.min(windowMs, 2 * this.#ms);
      return;
    }
    this.#ms = 0;
    this.#soonCount = 0;
    this.#patience = Math.min(PATIENCE_LIMIT, 2 * this.#patience);
  }

  #spend(nowMs: number, lookedMs: number): void {
    this.#accrue(nowMs);
    this.#budgetMs -= Math.min(lookedMs, this.#settings.windowMs);
  }

  #accrue(nowMs: number): void {
    const { share } = this.#settings;
    this.#budgetMs = Math.min(BURST_MS * share, this.#budgetMs + (nowMs - this.#budgetAtMs) * share);
    this.#budgetAtMs = nowMs;
  }
}
