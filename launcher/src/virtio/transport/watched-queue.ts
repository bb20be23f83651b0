import type { PollSource } from "../../sys/poll-source.ts";
import type { Virtqueue } from "../queue.ts";

/** The available ring of a queue as something that can be looked at. */
export class WatchedQueue implements PollSource {
  readonly #queue: Virtqueue;
  readonly #serve: () => void;

  constructor(queue: Virtqueue, serve: () => void) {
    this.#queue = queue;
    this.#serve = serve;
  }

  get isWatched(): boolean {
    return this.#queue.isWatched;
  }

  set isWatched(isWatched: boolean) {
    this.#queue.isWatched = isWatched;
  }

  isReady(): boolean {
    return this.#queue.hasNews;
  }

  run(): void {
    this.#serve();
  }

  rest(): boolean {
    return this.#queue.endWatch();
  }
}
