import type { Clock } from "../clock.ts";

/** A clock that stands still until a test moves it. */
export class FakeClock implements Clock {
  #now: number;
  readonly #start: number;
  readonly #timers = new Set<{ readonly dueAt: number; readonly fn: () => void }>();

  constructor(startMs: number = Date.parse("2026-01-02T03:04:05Z")) {
    this.#now = startMs;
    this.#start = startMs;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now - this.#start;
  }

  after(delayMs: number, fn: () => void): Disposable {
    const timer = { dueAt: this.#now + Math.max(0, delayMs), fn };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => this.#timers.delete(timer) };
  }

  /** Milliseconds until the next timer is due; undefined without one. */
  get nextTimerMs(): number | undefined {
    const due = [...this.#timers].map((timer) => timer.dueAt);
    return due.length === 0 ? undefined : Math.min(...due) - this.#now;
  }

  /** Moves time on, and fires the timers on the way in order. */
  advance(durationMs: number): void {
    const end = this.#now + durationMs;
    for (;;) {
      const next = [...this.#timers].filter((timer) => timer.dueAt <= end).sort((a, b) => a.dueAt - b.dueAt)[0];
      if (next === undefined) {
        break;
      }
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.dueAt);
      next.fn();
    }
    this.#now = end;
  }
}
