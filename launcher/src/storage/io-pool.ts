import type { IoDone } from "../sys/file-io.ts";

/** Threads of libuv's pool when nothing is said (UV_THREADPOOL_SIZE). */
const DEFAULT_THREADS = 4;

/** An operation that blocks: `start` puts it on libuv's pool, `ended` hears of its result on the event loop. */
export interface PoolOperation {
  start(done: IoDone): void;
  /** Bytes moved, or an errno below zero. */
  ended(result: number): void;
}

interface Task {
  readonly lane: IoLane;
  operation: PoolOperation | null;
  next: Task | null;
  readonly done: IoDone;
}

/**
 * Shares libuv's pool among disks. One thread stays free for the rest of the process, and no lane takes all the others,
 * so that a disk that hangs (a network volume that is gone) holds up neither the launcher nor other disks.
 */
export class IoPool {
  readonly #limit: number;
  readonly #laneLimit: number;
  readonly #lanes: IoLane[] = [];
  #underWay = 0;
  #turn = 0;

  constructor(threads = Number(process.env["UV_THREADPOOL_SIZE"]) || DEFAULT_THREADS) {
    this.#limit = Math.max(1, threads - 1);
    this.#laneLimit = Math.max(1, this.#limit - 1);
  }

  /** A queue of operations of its own, for one disk. */
  openLane(): IoLane {
    const lane = new IoLane(this.#laneLimit, {
      freed: () => {
        this.#underWay--;
      },
      changed: () => this.#pump(),
      closed: (closed) => {
        const at = this.#lanes.indexOf(closed);
        if (at >= 0) this.#lanes.splice(at, 1);
      },
    });
    this.#lanes.push(lane);
    return lane;
  }

  /** Starts what the limits allow, a task of each lane in turn. */
  #pump(): void {
    for (let idle = 0; idle < this.#lanes.length && this.#underWay < this.#limit; ) {
      this.#turn = (this.#turn + 1) % this.#lanes.length;
      // Counted first: a task may end before the call returns.
      this.#underWay++;
      if (this.#lanes[this.#turn]?.startOne()) idle = 0;
      else {
        this.#underWay--;
        idle++;
      }
    }
  }
}

interface LaneEvents {
  freed(): void;
  changed(): void;
  closed(lane: IoLane): void;
}

/** Operations of one disk, started in the order they come. */
export class IoLane {
  readonly #limit: number;
  readonly #events: LaneEvents;
  #first: Task | null = null;
  #last: Task | null = null;
  /** Tasks for reuse. */
  #spare: Task | null = null;
  #underWay = 0;
  #onIdle: (() => void) | null = null;

  constructor(limit: number, events: LaneEvents) {
    this.#limit = limit;
    this.#events = events;
  }

  /** Runs `operation` when its turn comes. */
  run(operation: PoolOperation): void {
    const task = this.#spare ?? this.#newTask();
    this.#spare = this.#spare === null ? null : task.next;
    task.operation = operation;
    task.next = null;
    if (this.#last) this.#last.next = task;
    else this.#first = task;
    this.#last = task;
    this.#events.changed();
  }

  /** Resolves when nothing is under way or waiting; the lane takes nothing after. */
  async close(): Promise<void> {
    if (this.#underWay > 0 || this.#first)
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    this.#events.closed(this);
  }

  /** Called by the pool: starts the next task; false when there is none or too many are under way. */
  startOne(): boolean {
    const task = this.#first;
    if (!task?.operation || this.#underWay >= this.#limit) return false;
    this.#first = task.next;
    if (!this.#first) this.#last = null;
    this.#underWay++;
    task.operation.start(task.done);
    return true;
  }

  #newTask(): Task {
    const task: Task = { lane: this, operation: null, next: null, done: (result) => this.#ended(task, result) };
    return task;
  }

  #ended(task: Task, result: number): void {
    const operation = task.operation;
    task.operation = null;
    task.next = this.#spare;
    this.#spare = task;
    this.#underWay--;
    this.#events.freed();
    operation?.ended(result);
    this.#events.changed();
    if (this.#underWay === 0 && !this.#first) this.#onIdle?.();
  }
}
