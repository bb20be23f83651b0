import type { Poller, PollSource } from "./poll-source.ts";
import { type PollSettings, PollWindow } from "./poll-window.ts";

/** After so long, all else that the event loop has gets its turn. */
const TURN_MS = 0.1;

/** Looked at while others are, and by events all the time. */
export interface Companion {
  isReady(): boolean;
  run(): void;
}

export interface LoopTime {
  /** performance.now() */
  now(): number;
  /** setImmediate */
  later(call: () => void): void;
}

const realTime: LoopTime = {
  now: () => performance.now(),
  later: (call) => void setImmediate(call),
};

/**
 * Looks for work from the event loop itself, between its turns. Waking the loop costs more than most requests to a disk,
 * and what makes an event pays too: a guest that rings leaves its processor to the kernel for it.
 */
export class LoopPoller implements Poller {
  readonly #window: PollWindow;
  readonly #time: LoopTime;
  readonly #companions = new Set<Companion>();
  /** Invariant: exactly those that are watched; where there are some, a turn is to come. */
  #sources: PollSource[] = [];
  #hasTurn = false;
  /** When there was work last; null before the first look. */
  #idleSinceMs: number | null = null;
  #lookedMs = 0;

  constructor(settings: PollSettings, time: LoopTime = realTime) {
    this.#window = new PollWindow(settings);
    this.#time = time;
  }

  /** Time spent on looking so far. */
  get lookedMs(): number {
    return this.#lookedMs;
  }

  woken(source: PollSource): void {
    if (source.isWatched) return;
    if (this.#sources.length === 0) {
      const now = this.#time.now();
      this.#window.woken(now);
      if (!this.#window.mayLook(now, 0)) return;
      this.#idleSinceMs = null;
    }
    this.#watch(source);
    this.#takeTurn();
  }

  join(source: PollSource): void {
    if (!source.isWatched && this.#sources.length > 0) this.#watch(source);
  }

  leave(source: PollSource): void {
    if (!source.isWatched) return;
    source.isWatched = false;
    this.#sources = this.#sources.filter((each) => each !== source);
  }

  /** Until it is disposed. */
  accompany(companion: Companion): Disposable {
    this.#companions.add(companion);
    return { [Symbol.dispose]: () => void this.#companions.delete(companion) };
  }

  #watch(source: PollSource): void {
    source.isWatched = true;
    this.#sources.push(source);
  }

  #takeTurn(): void {
    if (this.#hasTurn) return;
    this.#hasTurn = true;
    this.#time.later(() => {
      this.#hasTurn = false;
      this.#look();
    });
  }

  #look(): void {
    const time = this.#time;
    let now = time.now();
    let idleSinceMs = this.#idleSinceMs ?? now;
    for (const endMs = now + TURN_MS; now < endMs; now = time.now()) {
      if (this.#sources.length === 0) return;
      for (const companion of this.#companions) if (companion.isReady()) companion.run();
      if (this.#runReady(now, now - idleSinceMs)) idleSinceMs = time.now();
      else if (!this.#window.mayLook(now, now - idleSinceMs)) {
        this.#rest(now, now - idleSinceMs);
        return;
      }
    }
    this.#idleSinceMs = idleSinceMs;
    this.#takeTurn();
  }

  /** Does all there is; false when there was nothing. */
  #runReady(now: number, lookedMs: number): boolean {
    let hasFound = false;
    // Running one may add sources, or take some away.
    for (let i = 0; i < this.#sources.length; i++) {
      const source = this.#sources[i];
      if (!source?.isReady()) continue;
      if (!hasFound) {
        this.#window.found(now, lookedMs);
        this.#lookedMs += lookedMs;
      }
      hasFound = true;
      source.run();
    }
    return hasFound;
  }

  #rest(now: number, lookedMs: number): void {
    this.#window.missed(now, lookedMs);
    this.#lookedMs += lookedMs;
    // Running one may have another leave, which is not to be touched then.
    for (let source = this.#sources.pop(); source; source = this.#sources.pop()) {
      source.isWatched = false;
      if (source.rest()) source.run();
    }
  }
}
