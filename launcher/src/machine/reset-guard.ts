/** How many resets make a storm, in how much running time, and how long a run counts as a real one. */
const STORM_RESETS = 20;
const STORM_WINDOW_MS = 10_000;
const REAL_RUN_MS = 1_000;

/**
 * Tells a guest that restarts from one that only ever resets itself (a triple fault at boot, a kernel that panics at
 * once): each of these costs the host a boot, for ever.
 */
export class ResetGuard {
  /** Invariant: the lengths of the last runs, none of them a real one. */
  readonly #runsMs: number[] = [];

  /** Notes that the guest reset itself after running for `ranMs`; true when this is a storm by now. */
  reset(ranMs: number): boolean {
    if (ranMs > REAL_RUN_MS) {
      this.#runsMs.length = 0;
      return false;
    }
    this.#runsMs.push(ranMs);
    if (this.#runsMs.length > STORM_RESETS) this.#runsMs.shift();
    const total = this.#runsMs.reduce((sum, run) => sum + run, 0);
    return this.#runsMs.length === STORM_RESETS && total <= STORM_WINDOW_MS;
  }
}
