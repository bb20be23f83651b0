import type { Poller, PollSource } from "../../sys/poll-source.ts";
import type { Virtqueue } from "../queue.ts";

/** The queues of one device, which a poller looks at once they have rung. */
export class WatchedQueues {
  /** Null where none is looked at. */
  readonly #poller: Poller | null;
  readonly #serve: (index: number) => void;
  readonly #sources = new Map<number, WatchedQueue>();

  constructor(poller: Poller | null, serve: (index: number) => void) {
    this.#poller = poller;
    this.#serve = serve;
  }

  /** A driver's bell was heard, and its queue is about to be served. It is the same queue until `clear`. */
  rung(index: number, queue: Virtqueue): void {
    if (!this.#poller) return;
    let source = this.#sources.get(index);
    if (!source) {
      source = new WatchedQueue(queue, () => this.#serve(index));
      this.#sources.set(index, source);
    }
    if (source.isReady()) this.#poller.woken(source);
  }

  /** None is looked at any more. Those that stay ring again from when they are next served. */
  clear(): void {
    for (const source of this.#sources.values()) this.#poller?.leave(source);
    this.#sources.clear();
  }
}

/** The available ring of a queue. */
class WatchedQueue implements PollSource {
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
