import type { IoUring } from "../sys/io-uring.ts";
import { type FileCalls, PoolCalls, RingCalls } from "./file-calls.ts";
import { type Operation, OperationQueue } from "./operation-queue.ts";

/** Threads of libuv's pool when nothing is said (UV_THREADPOOL_SIZE). */
const DEFAULT_THREADS = 4;

/**
 * Shares libuv's pool among disks. One thread stays free for the rest of the process, and no lane takes all the others,
 * so that a disk that hangs (a network volume that is gone) holds up neither the launcher nor other disks.
 */
export class IoPool {
  readonly #limit: number;
  readonly #laneLimit: number;
  readonly #queues: OperationQueue[] = [];
  readonly #openRing: () => IoUring | null;
  #underWay = 0;
  #turn = 0;

  /** `openRing` makes the ring of a disk, or null: all its operations are the pool's then. */
  constructor(
    threads = Number(process.env["UV_THREADPOOL_SIZE"]) || DEFAULT_THREADS,
    openRing: () => IoUring | null = () => null,
  ) {
    this.#limit = Math.max(1, threads - 1);
    this.#laneLimit = Math.max(1, this.#limit - 1);
    this.#openRing = openRing;
  }

  /** Where the operations of one disk are run. */
  openLane(): IoLane {
    const queue = new OperationQueue(this.#laneLimit, {
      freed: () => {
        this.#underWay--;
      },
      changed: () => this.#pump(),
    });
    this.#queues.push(queue);
    return new IoLane(queue, this.#openRing(), () => {
      const at = this.#queues.indexOf(queue);
      if (at >= 0) this.#queues.splice(at, 1);
    });
  }

  /** Starts what the limits allow, an operation of each lane in turn. */
  #pump(): void {
    for (let idle = 0; idle < this.#queues.length && this.#underWay < this.#limit; ) {
      this.#turn = (this.#turn + 1) % this.#queues.length;
      // Counted first: an operation may end before the call returns.
      this.#underWay++;
      if (this.#queues[this.#turn]?.startOne()) idle = 0;
      else {
        this.#underWay--;
        idle++;
      }
    }
  }
}

/** How the calls on a file are made, and what they queue in. */
export interface FileLane {
  readonly calls: FileCalls;
  readonly queue: Pick<OperationQueue, "run">;
}

/** Where the operations of one disk are run: on the pool, and in the disk's ring where it has one. */
export class IoLane {
  readonly #pool: OperationQueue;
  readonly #ring: IoUring | null;
  readonly #ringQueue: OperationQueue | null;
  readonly #onClose: () => void;

  constructor(pool: OperationQueue, ring: IoUring | null, onClose: () => void) {
    this.#pool = pool;
    this.#ring = ring;
    this.#ringQueue = ring && queueOf(ring);
    this.#onClose = onClose;
  }

  /** Runs `operation`, which uses a thread of the pool, when its turn comes. */
  run(operation: Operation): void {
    this.#pool.run(operation);
  }

  /** For an open file of the disk, which stays open until the lane is closed. */
  file(fd: number): FileLane {
    const number = this.#ring?.addFile(fd) ?? null;
    if (this.#ring && this.#ringQueue && number !== null)
      return { calls: new RingCalls(this.#ring, number), queue: this.#ringQueue };
    return { calls: new PoolCalls(fd), queue: this.#pool };
  }

  /** Resolves when nothing is under way or waiting; the lane takes nothing after. */
  async close(): Promise<void> {
    const queues = this.#ringQueue ? [this.#pool, this.#ringQueue] : [this.#pool];
    // What ends in one may go on in the other.
    while (queues.some((queue) => !queue.isIdle)) await Promise.all(queues.map((queue) => queue.idle()));
    this.#ring?.[Symbol.dispose]();
    this.#onClose();
  }
}

/** What is more than the ring takes waits here. */
function queueOf(ring: IoUring): OperationQueue {
  const queue: OperationQueue = new OperationQueue(ring.capacity, {
    freed: () => {},
    changed: () => {
      while (queue.startOne());
    },
  });
  return queue;
}
