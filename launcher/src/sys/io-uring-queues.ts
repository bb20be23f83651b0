import type { IoDone } from "./file-io.ts";
import * as layout from "./io-uring-layout.ts";
import type { Poller, PollSource } from "./poll-source.ts";
import { setLong } from "./words.ts";

const EINTR = 4;
const EAGAIN = 11;
const ENOMEM = 12;
const EBUSY = 16;
/** How long to wait where the kernel has no memory for a request, and nothing under way will free some. */
const RETRY_MS = 10;
const SQE_WORDS = layout.SQE_BYTES / 4;
const CQE_WORDS = layout.CQE_BYTES / 4;

/** The memory of one ring, where io_uring_setup(2) says that things are. */
export interface RingMemory {
  /** struct io_uring_params as the kernel left it. */
  readonly params: Uint32Array;
  readonly rings: ArrayBuffer;
  readonly sqes: ArrayBuffer;
}

/** io_uring_enter(2), with IORING_ENTER_GETEVENTS: how many entries the kernel took, or an errno below zero. */
export type Enter = (toSubmit: number) => number;

/** What an entry of the submission queue says (struct io_uring_sqe). */
export interface Submission {
  readonly opcode: number;
  /** Index of a registered file. */
  readonly file: number;
  readonly offset: number;
  readonly address: number;
  readonly length: number;
  readonly operationFlags: number;
}

/**
 * The two queues of a ring. An operation has the same index as entry of the submission queue, as user data and in
 * `#done`, so an entry stays as it is until its operation ends. There is never more under way than the submission queue
 * has entries, and the completion queue has twice as many: it cannot overflow.
 */
export class IoUringQueues implements PollSource {
  readonly capacity: number;
  isWatched = false;
  readonly #poller: Poller | null;
  readonly #enter: Enter;
  readonly #words: Int32Array;
  readonly #sqes: Uint32Array;
  /** Where things are in `#words`. */
  readonly #at: Readonly<Record<"sqTail" | "sqFlags" | "sqArray" | "cqHead" | "cqTail" | "cqFlags" | "cqes", number>>;
  readonly #sqMask: number;
  readonly #cqMask: number;
  readonly #free: number[];
  readonly #done: (IoDone | null)[];
  /** Put into the submission queue, and not yet taken by the kernel; the last ones of it. */
  #unsubmitted = 0;
  #sqTail = 0;
  #isReaping = false;
  #immediate: NodeJS.Immediate | null = null;
  #retry: NodeJS.Timeout | null = null;

  constructor(memory: RingMemory, enter: Enter, poller: Poller | null = null) {
    const { params } = memory;
    this.#poller = poller;
    const param = (index: number) => params[index] ?? 0;
    const word = (index: number) => param(index) / 4;
    const { Params } = layout;
    this.#enter = enter;
    this.capacity = param(Params.sqEntries);
    this.#words = new Int32Array(memory.rings);
    this.#sqes = new Uint32Array(memory.sqes);
    this.#at = {
      sqTail: word(Params.sqTail),
      sqFlags: word(Params.sqFlags),
      sqArray: word(Params.sqArray),
      cqHead: word(Params.cqHead),
      cqTail: word(Params.cqTail),
      cqFlags: word(Params.cqFlags),
      cqes: word(Params.cqes),
    };
    this.#sqMask = this.#words[word(Params.sqMask)] ?? 0;
    this.#cqMask = this.#words[word(Params.cqMask)] ?? 0;
    this.#free = Array.from({ length: this.capacity }, (_, i) => this.capacity - 1 - i);
    this.#done = new Array<IoDone | null>(this.capacity).fill(null);
  }

  /** Operations that have not ended. */
  get underWay(): number {
    return this.capacity - this.#free.length;
  }

  /**
   * Starts an operation; `done` hears of its result, perhaps before this returns. RangeError when `capacity` are under
   * way. What comes while others are with the kernel goes to it together, when this turn of the event loop ends.
   */
  start(submission: Submission, done: IoDone): void {
    const index = this.#free.pop();
    if (index === undefined) throw new RangeError(`more than ${this.capacity} operations in a ring`);
    const isFirst = this.underWay === 1;
    this.#done[index] = done;
    this.#write(index, submission);
    this.#push(index);
    this.#poller?.join(this);
    if (this.#isReaping || this.#retry) return;
    if (isFirst) this.run();
    else if (!this.isWatched) this.#immediate ??= setImmediate(() => this.run());
  }

  /** The ring's eventfd was readable. */
  signalled(): void {
    if (this.isReady()) this.#poller?.woken(this);
    this.run();
  }

  isReady(): boolean {
    return (this.#unsubmitted > 0 && !this.#retry) || this.#hasEnded();
  }

  /** Gives the kernel what is new, and takes what has ended. */
  run(): void {
    if (this.#isReaping) return;
    this.#cancelTimers();
    this.#isReaping = true;
    Atomics.store(this.#words, this.#at.cqFlags, layout.IORING_CQ_EVENTFD_DISABLED);
    try {
      this.#submit();
      this.#reap();
      // What was started by what ended.
      if (this.#unsubmitted > 0 && !this.#retry) this.#submit();
    } finally {
      this.#isReaping = false;
      if (!this.isWatched && this.rest()) this.#immediate ??= setImmediate(() => this.run());
    }
  }

  /** Armed first, then looked at: what ends in between is seen, or signalled, or both. */
  rest(): boolean {
    Atomics.store(this.#words, this.#at.cqFlags, 0);
    return this.isReady();
  }

  #hasEnded(): boolean {
    const flags = Atomics.load(this.#words, this.#at.sqFlags);
    if (flags & layout.IORING_SQ_TASKRUN) return true;
    return Atomics.load(this.#words, this.#at.cqTail) !== this.#words[this.#at.cqHead];
  }

  /** Stops timers. Nothing is under way. */
  close(): void {
    if (this.underWay > 0) throw new Error(`a ring is closed with ${this.underWay} operations under way`);
    this.#poller?.leave(this);
    this.#cancelTimers();
  }

  #cancelTimers(): void {
    if (this.#immediate) clearImmediate(this.#immediate);
    if (this.#retry) clearTimeout(this.#retry);
    this.#immediate = null;
    this.#retry = null;
  }

  #write(index: number, { opcode, file, offset, address, length, operationFlags }: Submission): void {
    const sqes = this.#sqes;
    const at = index * SQE_WORDS;
    const { Sqe } = layout;
    sqes.fill(0, at, at + SQE_WORDS);
    sqes[at + Sqe.opcodeAndFlags] = opcode | (layout.IOSQE_FIXED_FILE << 8);
    sqes[at + Sqe.file] = file;
    setLong(sqes, at + Sqe.offset, offset);
    setLong(sqes, at + Sqe.address, address);
    sqes[at + Sqe.length] = length;
    sqes[at + Sqe.operationFlags] = operationFlags;
    sqes[at + Sqe.userData] = index;
  }

  #push(index: number): void {
    this.#words[this.#at.sqArray + (this.#sqTail & this.#sqMask)] = index;
    this.#sqTail = (this.#sqTail + 1) | 0;
    Atomics.store(this.#words, this.#at.sqTail, this.#sqTail);
    this.#unsubmitted++;
  }

  /** One call for all that is new; also lets the kernel put what has ended into the completion queue. */
  #submit(): void {
    for (;;) {
      const result = this.#enter(this.#unsubmitted);
      if (result >= 0) this.#unsubmitted -= Math.min(result, this.#unsubmitted);
      if (this.#unsubmitted === 0) return;
      // Fewer than asked is how the kernel says that it could not go on; the next call says why.
      if (result > 0 || result === -EINTR) continue;
      if (result === 0 || result === -EAGAIN || result === -ENOMEM || result === -EBUSY)
        this.#retry = setTimeout(() => this.run(), RETRY_MS);
      else this.#failUnsubmitted(result);
      return;
    }
  }

  /** The kernel does not take them, and why is no passing thing: takes them back. */
  #failUnsubmitted(result: number): void {
    const failed: number[] = [];
    for (; this.#unsubmitted > 0; this.#unsubmitted--) {
      this.#sqTail = (this.#sqTail - 1) | 0;
      failed.push(this.#words[this.#at.sqArray + (this.#sqTail & this.#sqMask)] ?? 0);
    }
    Atomics.store(this.#words, this.#at.sqTail, this.#sqTail);
    for (const index of failed.reverse()) setImmediate(() => this.#end(index, result));
  }

  /** At most as many as were under way at the start, so that it ends. */
  #reap(): void {
    const words = this.#words;
    const tail = Atomics.load(words, this.#at.cqTail);
    let head = words[this.#at.cqHead] ?? 0;
    while (head !== tail) {
      const at = this.#at.cqes + (head & this.#cqMask) * CQE_WORDS;
      const index = words[at] ?? 0;
      const result = words[at + 2] ?? 0;
      head = (head + 1) | 0;
      // Before `done` is called, which may throw.
      Atomics.store(words, this.#at.cqHead, head);
      if (result !== -EAGAIN || !this.#again(index)) this.#end(index, result);
    }
  }

  /** Where it would have had to wait: once more, in a thread of the kernel's. False when that was done already. */
  #again(index: number): boolean {
    const at = index * SQE_WORDS + layout.Sqe.opcodeAndFlags;
    const flag = layout.IOSQE_ASYNC << 8;
    const word = this.#sqes[at] ?? 0;
    if (word & flag) return false;
    this.#sqes[at] = word | flag;
    this.#push(index);
    return true;
  }

  #end(index: number, result: number): void {
    const done = this.#done[index];
    if (!done) return;
    this.#done[index] = null;
    this.#free.push(index);
    done(result);
  }
}
