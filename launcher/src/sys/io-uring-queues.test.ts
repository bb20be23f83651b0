import { describe, expect, it } from "@jest/globals";
import { until } from "../testing/until.ts";
import {
  CQE_BYTES,
  IORING_CQ_EVENTFD_DISABLED,
  IORING_OP_READV,
  IORING_SQ_TASKRUN,
  IOSQE_ASYNC,
  IOSQE_FIXED_FILE,
  PARAMS_WORDS,
  Params,
  SQE_BYTES,
} from "./io-uring-layout.ts";
import { IoUringQueues } from "./io-uring-queues.ts";
import type { Poller, PollSource } from "./poll-source.ts";

const EIO = 5;
const EAGAIN = 11;
const EINTR = 4;
const ENOMEM = 12;
const EBADF = 9;

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** The kernel's side of a ring of `entries`. */
class FakeKernel {
  readonly entries: number;
  readonly params = new Uint32Array(PARAMS_WORDS);
  readonly rings = new ArrayBuffer(4096);
  readonly sqes: ArrayBuffer;
  /** Answers of the next calls; without one, all is taken. */
  readonly answers: number[] = [];
  /** Entries that were asked for in each call. */
  readonly calls: number[] = [];
  /** User data of what was taken and has not ended. */
  readonly taken: number[] = [];
  /** Runs in each call, after entries were taken: what completes at once. */
  inCall: () => void = () => {};
  /** Whether the eventfd would have been signalled at each completion. */
  readonly signals: boolean[] = [];
  readonly #words: Int32Array;
  #cqTail: number;

  /** Counters start at `start`, as after that many operations. */
  constructor(entries: number, start = 0) {
    this.entries = entries;
    this.sqes = new ArrayBuffer(entries * SQE_BYTES);
    this.#words = new Int32Array(this.rings);
    const at = { sqHead: 0, sqTail: 4, cqHead: 8, cqTail: 12, sqMask: 16, cqMask: 20, sqFlags: 24, cqFlags: 28 };
    for (const [name, offset] of Object.entries(at)) this.params[Params[name as keyof typeof at]] = offset;
    this.params[Params.sqEntries] = entries;
    this.params[Params.cqEntries] = 2 * entries;
    this.params[Params.cqes] = 64;
    this.params[Params.sqArray] = 64 + 2 * entries * CQE_BYTES;
    this.#words[4] = entries - 1;
    this.#words[5] = 2 * entries - 1;
    for (const word of [0, 1, 2, 3]) this.#words[word] = start | 0;
    this.#cqTail = start | 0;
  }

  set taskRun(on: boolean) {
    this.#words[6] = on ? IORING_SQ_TASKRUN : 0;
  }

  get isQuiet(): boolean {
    return this.#words[7] === IORING_CQ_EVENTFD_DISABLED;
  }

  /** Word `word` of the entry with `index`. */
  sqe(index: number, word: number): number {
    return new Uint32Array(this.sqes)[index * 16 + word] ?? 0;
  }

  enter(toSubmit: number): number {
    this.calls.push(toSubmit);
    this.taskRun = false;
    const answer = this.answers.shift() ?? toSubmit;
    const array = (this.params[Params.sqArray] ?? 0) / 4;
    for (let i = 0; i < answer; i++) {
      const head = this.#words[0] ?? 0;
      if (head === this.#words[1]) throw new Error("the kernel was told of entries that are not there");
      this.taken.push(this.#words[array + (head & (this.entries - 1))] ?? 0);
      this.#words[0] = (head + 1) | 0;
    }
    this.inCall();
    return answer;
  }

  /** Ends the operation that was taken first, or that with `index`. */
  complete(result: number, index = this.taken[0] ?? -1): void {
    this.taken.splice(this.taken.indexOf(index), 1);
    const at = 16 + (this.#cqTail & (2 * this.entries - 1)) * 4;
    this.#words.set([this.sqe(index, 8), this.sqe(index, 9), result, 0], at);
    this.#cqTail = (this.#cqTail + 1) | 0;
    this.#words[3] = this.#cqTail;
    this.signals.push(!this.isQuiet);
  }
}

function setUp(entries = 8, start = 0, poller: Poller | null = null) {
  const kernel = new FakeKernel(entries, start);
  const queues = new IoUringQueues(kernel, (toSubmit) => kernel.enter(toSubmit), poller);
  const ended: string[] = [];
  const begin = (name: string, then?: () => void) =>
    queues.start(
      {
        opcode: IORING_OP_READV,
        file: 3,
        offset: 5 * 2 ** 32 + 7,
        address: 0x7fff_1234_5000,
        length: 2,
        operationFlags: 0,
      },
      (result) => {
        ended.push(`${name}=${result}`);
        then?.();
      },
    );
  return { kernel, queues, ended, begin };
}

describe("a ring", () => {
  it("tells the kernel what to do", () => {
    const { kernel, begin } = setUp();
    begin("a");
    const [index = -1] = kernel.taken;
    expect(Array.from({ length: 10 }, (_, word) => kernel.sqe(index, word))).toEqual([
      IORING_OP_READV | (IOSQE_FIXED_FILE << 8),
      3,
      7,
      5,
      0x1234_5000,
      0x7fff,
      2,
      0,
      index,
      0,
    ]);
  });

  it("starts the first operation at once, and those that follow it together", async () => {
    const { kernel, ended, queues, begin } = setUp();
    for (const name of ["a", "b", "c", "d"]) begin(name);
    expect(kernel.calls).toEqual([1]);
    await turn();
    expect(kernel.calls).toEqual([1, 3]);
    for (const result of [10, -EIO, 30, 40]) kernel.complete(result);
    queues.run();
    expect(ended).toEqual(["a=10", `b=${-EIO}`, "c=30", "d=40"]);
  });

  it("takes what has ended in any order, and hands operations their own results", async () => {
    const { kernel, ended, queues, begin } = setUp();
    for (const name of ["a", "b", "c"]) begin(name);
    await turn();
    const [a, b, c] = kernel.taken;
    kernel.complete(3, c);
    kernel.complete(1, a);
    queues.run();
    kernel.complete(2, b);
    queues.run();
    expect(ended).toEqual(["c=3", "a=1", "b=2"]);
  });

  it("takes what ended while it was started", () => {
    const { kernel, ended, begin } = setUp();
    kernel.inCall = () => kernel.complete(512);
    begin("a");
    expect(ended).toEqual(["a=512"]);
  });

  it("goes around its queues, also where their counters wrap", () => {
    const { kernel, ended, begin } = setUp(2, 2 ** 31 - 3);
    kernel.inCall = () => kernel.complete(1);
    for (let i = 0; i < 10; i++) begin(`${i}`);
    expect(ended).toEqual(Array.from({ length: 10 }, (_, i) => `${i}=1`));
  });

  it("refuses more than it has room for", async () => {
    const { kernel, queues, begin } = setUp(2);
    begin("a");
    begin("b");
    expect(() => begin("c")).toThrow(RangeError);
    await turn();
    kernel.complete(1);
    queues.run();
    begin("c");
    expect(queues.underWay).toBe(2);
  });

  it("submits what ended operations start, in the same turn", () => {
    const { kernel, ended, queues, begin } = setUp();
    begin("a", () => {
      begin("b");
      begin("c");
    });
    kernel.complete(1);
    queues.run();
    expect([kernel.calls, kernel.taken.length, ended]).toEqual([[1, 0, 2], 2, ["a=1"]]);
  });

  it("closes when nothing is under way, and not before", () => {
    const { kernel, queues, begin } = setUp();
    begin("a");
    expect(() => queues.close()).toThrow("1 operations under way");
    kernel.complete(1);
    queues.run();
    queues.close();
  });
});

describe("the eventfd of a ring", () => {
  it("is quiet while the ring is looked at anyway, and armed after", () => {
    const { kernel, begin } = setUp();
    kernel.inCall = () => kernel.complete(1);
    begin("a");
    expect([kernel.signals, kernel.isQuiet]).toEqual([[false], false]);
  });

  it("is armed before the ring is looked at for the last time: nothing is missed", async () => {
    const { kernel, ended, queues, begin } = setUp();
    begin("a");
    begin("b");
    await turn();
    kernel.complete(1);
    // "b" ends behind the last look at the queue, while the eventfd is quiet.
    const store = Atomics.store;
    let once = true;
    Atomics.store = ((words: Int32Array, at: number, value: number) => {
      if (value === 0 && kernel.isQuiet && once) {
        once = false;
        kernel.complete(2);
      }
      return store(words, at, value);
    }) as typeof Atomics.store;
    try {
      queues.run();
    } finally {
      Atomics.store = store;
    }
    expect(ended).toEqual(["a=1"]);
    await turn();
    expect(ended).toEqual(["a=1", "b=2"]);
  });

  it("is not waited for where the kernel says that it would complete something", async () => {
    const { kernel, ended, queues, begin } = setUp();
    begin("a");
    kernel.inCall = () => {
      kernel.inCall = () => kernel.complete(9);
      kernel.taskRun = true;
    };
    queues.run();
    expect(ended).toEqual([]);
    await turn();
    expect(ended).toEqual(["a=9"]);
  });
});

/** Watches whatever joins. */
class EagerPoller implements Poller {
  readonly woke: PollSource[] = [];
  woken(source: PollSource): void {
    this.woke.push(source);
  }
  join(source: PollSource): void {
    source.isWatched = true;
  }
  leave(source: PollSource): void {
    source.isWatched = false;
  }
}

describe("a ring that is watched", () => {
  const setUpWatched = () => setUp(8, 0, new EagerPoller());

  it("needs no eventfd: what ends is seen in memory", () => {
    const { kernel, ended, queues, begin } = setUpWatched();
    begin("a");
    expect(queues.isReady()).toBe(false);
    kernel.complete(7);
    expect([kernel.signals, queues.isReady()]).toEqual([[false], true]);
    queues.run();
    expect([ended, queues.isReady(), kernel.isQuiet]).toEqual([["a=7"], false, true]);
  });

  it("sees that the kernel would complete something", () => {
    const { kernel, queues, begin } = setUpWatched();
    begin("a");
    kernel.taskRun = true;
    expect(queues.isReady()).toBe(true);
  });

  it("is given what is new to submit by who looks, at once", async () => {
    const { kernel, queues, begin } = setUpWatched();
    for (const name of ["a", "b", "c"]) begin(name);
    expect([kernel.calls, queues.isReady()]).toEqual([[1], true]);
    queues.run();
    expect([kernel.calls, queues.isReady()]).toEqual([[1, 2], false]);
    await turn();
    expect(kernel.calls).toEqual([1, 2]);
  });

  it("is not looked at in vain while the kernel has no memory", async () => {
    const { kernel, ended, queues, begin } = setUpWatched();
    kernel.answers.push(-ENOMEM);
    begin("a");
    expect(queues.isReady()).toBe(false);
    await until(() => kernel.taken.length === 1);
    kernel.complete(1);
    queues.run();
    expect(ended).toEqual(["a=1"]);
  });

  it("signals again when it is not watched any more, and tells what came before that", () => {
    const { kernel, queues, begin } = setUpWatched();
    begin("a");
    queues.isWatched = false;
    expect([queues.rest(), kernel.isQuiet]).toEqual([false, false]);
    queues.isWatched = true;
    begin("b");
    queues.run();
    kernel.complete(1);
    queues.isWatched = false;
    expect([kernel.signals, queues.rest()]).toEqual([[false], true]);
  });

  it("tells that it was woken for something, and not when it was for nothing", () => {
    const poller = new EagerPoller();
    const { kernel, queues, begin } = setUp(8, 0, poller);
    begin("a");
    queues.signalled();
    expect(poller.woke).toEqual([]);
    kernel.complete(1);
    queues.signalled();
    expect(poller.woke).toEqual([queues]);
  });

  it("is left when it closes", () => {
    const { kernel, queues, begin } = setUpWatched();
    begin("a");
    kernel.complete(1);
    queues.run();
    queues.close();
    expect(queues.isWatched).toBe(false);
  });
});

describe("a kernel that does not take operations", () => {
  it("is asked again when interrupted, or when it took only some", async () => {
    const { kernel, begin } = setUp();
    kernel.answers.push(-EINTR, 1, 2, -EINTR, 1);
    begin("a");
    for (const name of ["b", "c", "d"]) begin(name);
    await turn();
    expect([kernel.calls, kernel.taken.length]).toEqual([[1, 1, 3, 1, 1], 4]);
  });

  it("is asked again later when it has no memory", async () => {
    const { kernel, ended, begin } = setUp();
    kernel.answers.push(-ENOMEM, 0, -EAGAIN);
    kernel.inCall = () => {
      while (kernel.taken.length > 0) kernel.complete(1);
    };
    begin("a");
    begin("b");
    expect(ended).toEqual([]);
    await until(() => ended.length === 2);
    expect(ended).toEqual(["a=1", "b=1"]);
  });

  it("has the operations fail where that is no passing thing, and takes others after", async () => {
    const { kernel, ended, queues, begin } = setUp(2);
    begin("a");
    begin("b");
    kernel.answers.push(-EBADF);
    await turn();
    await turn();
    expect(ended).toEqual([`b=${-EBADF}`]);
    begin("c");
    await turn();
    kernel.complete(1);
    kernel.complete(3);
    queues.run();
    expect(ended).toEqual([`b=${-EBADF}`, "a=1", "c=3"]);
  });

  it("does with a thread what it could not do without waiting", () => {
    const { kernel, ended, queues, begin } = setUp();
    begin("a");
    kernel.complete(-EAGAIN);
    queues.run();
    const [index = -1] = kernel.taken;
    expect([kernel.sqe(index, 0) >>> 8, ended]).toEqual([IOSQE_FIXED_FILE | IOSQE_ASYNC, []]);
    kernel.complete(-EAGAIN);
    queues.run();
    expect(ended).toEqual([`a=${-EAGAIN}`]);
    begin("b");
    expect(kernel.sqe(kernel.taken[0] ?? -1, 0) >>> 8).toBe(IOSQE_FIXED_FILE);
  });
});
