import type { IoCompletion } from "../storage.ts";

/** Starts one load; `completion` is always called. */
export type StartLoad = (key: number, lengthBytes: number, completion: IoCompletion) => void;

/** Loads that several may wait for: each is done once, and no more than a few at a time. */
export class SharedLoads {
  readonly #limit: number;
  readonly #start: StartLoad;
  readonly #waiters = new Map<number, IoCompletion[]>();
  readonly #queued: { key: number; lengthBytes: number }[] = [];
  #underWay = 0;

  constructor(limit: number, start: StartLoad) {
    this.#limit = limit;
    this.#start = start;
  }

  /** `waiter` hears when `key` is loaded, perhaps before this returns. */
  load(key: number, lengthBytes: number, waiter: IoCompletion): void {
    const others = this.#waiters.get(key);
    if (others) {
      others.push(waiter);
      return;
    }
    this.#waiters.set(key, [waiter]);
    this.#queued.push({ key, lengthBytes });
    this.#pump();
  }

  #pump(): void {
    while (this.#underWay < this.#limit) {
      const next = this.#queued.shift();
      if (!next) return;
      this.#underWay++;
      this.#start(next.key, next.lengthBytes, { completed: (errno) => this.#ended(next.key, errno) });
    }
  }

  #ended(key: number, errno: number): void {
    const waiters = this.#waiters.get(key) ?? [];
    this.#waiters.delete(key);
    this.#underWay--;
    for (const waiter of waiters) waiter.completed(errno);
    this.#pump();
  }
}
