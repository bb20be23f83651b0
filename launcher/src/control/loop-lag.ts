const INTERVAL_MS = 500;

/** How late the event loop is: a timer that notes by how much it missed its time. */
export class LoopLag implements Disposable {
  #timer: NodeJS.Timeout | undefined;
  #due = 0;
  #maxMs = 0;
  #sumMs = 0;
  #count = 0;

  start(): this {
    this.#schedule();
    return this;
  }

  /** Sum of all delays seen and how many they were. */
  get totals(): { readonly sumMs: number; readonly count: number } {
    return { sumMs: this.#sumMs, count: this.#count };
  }

  /** The longest delay since the last call. */
  takeMaxMs(): number {
    const maxMs = this.#maxMs;
    this.#maxMs = 0;
    return maxMs;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    this.#due = performance.now() + INTERVAL_MS;
    this.#timer = setTimeout(() => this.#measure(), INTERVAL_MS);
    this.#timer.unref();
  }

  #measure(): void {
    const lagMs = Math.max(0, performance.now() - this.#due);
    this.#maxMs = Math.max(this.#maxMs, lagMs);
    this.#sumMs += lagMs;
    this.#count++;
    this.#schedule();
  }
}
