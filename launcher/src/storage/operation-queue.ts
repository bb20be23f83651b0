import type { IoDone } from "../sys/file-io.ts";

/** An operation that waits: `start` hands it to who does it, `ended` hears of its result on the event loop. */
export interface Operation {
  start(done: IoDone): void;
  /** Bytes moved, or an errno below zero. */
  ended(result: number): void;
}

interface Task {
  operation: Operation | null;
  next: Task | null;
  readonly done: IoDone;
}

export interface QueueEvents {
  /** One of those under way has ended. */
  freed(): void;
  /** Perhaps something can be started: called last. */
  changed(): void;
}

/** Operations in the order they come, and a limit to how many are under way. */
export class OperationQueue {
  readonly #limit: number;
  readonly #events: QueueEvents;
  #first: Task | null = null;
  #last: Task | null = null;
  /** Tasks for reuse. */
  #spare: Task | null = null;
  #underWay = 0;
  #onIdle: (() => void) | null = null;

  constructor(limit: number, events: QueueEvents) {
    this.#limit = limit;
    this.#events = events;
  }

  /** Runs `operation` when its turn comes. */
  run(operation: Operation): void {
    const task = this.#spare ?? this.#newTask();
    this.#spare = this.#spare === null ? null : task.next;
    task.operation = operation;
    task.next = null;
    if (this.#last) this.#last.next = task;
    else this.#first = task;
    this.#last = task;
    this.#events.changed();
  }

  /** True when nothing is under way or waiting. */
  get isIdle(): boolean {
    return this.#underWay === 0 && !this.#first;
  }

  /** Resolves when that is so. */
  async idle(): Promise<void> {
    if (!this.isIdle)
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
  }

  /** Starts the next operation; false when there is none or too many are under way. */
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
    const task: Task = { operation: null, next: null, done: (result) => this.#ended(task, result) };
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
    if (this.isIdle) this.#onIdle?.();
  }
}
