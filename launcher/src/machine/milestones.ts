/** Steps of a start, each with the milliseconds since the process started. */
export class Milestones {
  readonly #now: () => number;
  readonly #marks = new Map<string, number>();

  /** `now` answers milliseconds since the process started (performance.now() does). */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Notes that a step is done; only the first time counts. */
  mark(step: string): void {
    if (!this.#marks.has(step)) this.#marks.set(step, Math.round(this.#now() * 10) / 10);
  }

  snapshot(): Record<string, number> {
    return Object.fromEntries(this.#marks);
  }
}
