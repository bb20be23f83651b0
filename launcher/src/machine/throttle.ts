import { PauseAborted } from "./control-surface.ts";

/** A guest that is held back so long does not notice more than a busy host. */
const PERIOD_MS = 20;

export interface ThrottledGuest {
  /** It is to run, as far as others are concerned. */
  readonly isRunning: () => boolean;
  halt(): Promise<void>;
  run(): void;
}

/** Lets a guest run for a part of each period only, so that it writes less memory while a migration copies that. */
export class Throttle {
  readonly #guest: ThrottledGuest;
  #share = 0;
  /** Invariant: true exactly while `#turn` goes round. */
  #isTurning = false;

  constructor(guest: ThrottledGuest) {
    this.#guest = guest;
  }

  get share(): number {
    return this.#share;
  }

  /** `share` of the time, 0 to 0.99, the guest stands still. */
  set(share: number): void {
    this.#share = Math.min(0.99, Math.max(0, share));
    if (this.#share > 0 && !this.#isTurning) void this.#turn();
  }

  async #turn(): Promise<void> {
    this.#isTurning = true;
    while (this.#share > 0) {
      if (this.#guest.isRunning()) await this.#holdBack();
      await delay(PERIOD_MS * (1 - this.#share));
    }
    this.#isTurning = false;
  }

  async #holdBack(): Promise<void> {
    try {
      await this.#guest.halt();
    } catch (error) {
      if (error instanceof PauseAborted) return;
      throw error;
    }
    await delay(PERIOD_MS * this.#share);
    // Whoever paused, froze or reset it meanwhile wants it to stay as it is.
    if (this.#guest.isRunning()) this.#guest.run();
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
