import { beforeEach, describe, expect, it, jest } from "@jest/globals";
import type { IoDone } from "../sys/file-io.ts";
import type { IovecBlock } from "../sys/iovec.ts";
import { IoVector } from "./io-vector.ts";

const EINTR = 4;
const EIO = 5;
const EAGAIN = 11;
const ENOSPC = 28;
const EOPNOTSUPP = 95;
const FD = 7;

/** The kernel's answers to come, and what was asked: "now" or "pool", call, offset, ranges. */
let answers: { now: number[]; pool: number[] };
let asked: string[];

const now = (call: string) => (_fd: number, _iovecs: IovecBlock, count: number, offset: number) => {
  asked.push(`now ${call} ${offset} in ${count}`);
  return answers.now.shift() ?? 0;
};
const onPool = (call: string) => (_fd: number, _iovecs: IovecBlock, count: number, offset: number, done: IoDone) => {
  asked.push(`pool ${call} ${offset} in ${count}`);
  const answer = answers.pool.shift() ?? 0;
  setImmediate(() => done(answer));
};

jest.unstable_mockModule("../sys/file-io.ts", () => ({
  preadvNoWait: now("read"),
  pwritevNoWait: now("write"),
  preadvAsync: onPool("read"),
  pwritevAsync: onPool("write"),
  fdatasyncAsync: (_fd: number, done: IoDone) => done(answers.pool.shift() ?? 0),
  punchHoleAsync: () => {},
  zeroRangeAsync: () => {},
  ioctlAsync: () => {},
}));
const { FileIo } = await import("./file-io.ts");
const { IoPool } = await import("./io-pool.ts");

/** Runs one transfer of two ranges, 3000 bytes in all, at 8192; resolves with its errno. */
async function transfer(direction: "read" | "write", io = new FileIo(FD, new IoPool(4).openLane(), true)) {
  using vector = new IoVector();
  vector.append(0x10000, 1000);
  vector.append(0x20000, 2000);
  return await new Promise<number>((resolve) => io[direction](8192, vector, { completed: resolve }));
}

beforeEach(() => {
  answers = { now: [], pool: [] };
  asked = [];
});

describe.each(["read", "write"] as const)("a %s", (direction) => {
  it("that needs no waiting is done at once", async () => {
    answers.now = [3000];
    expect(await transfer(direction)).toBe(0);
    expect(asked).toEqual([`now ${direction} 8192 in 2`]);
  });

  it("that would wait goes to the pool", async () => {
    answers = { now: [-EAGAIN], pool: [3000] };
    expect(await transfer(direction)).toBe(0);
    expect(asked).toEqual([`now ${direction} 8192 in 2`, `pool ${direction} 8192 in 2`]);
  });

  it("that is done in part at once has the rest done on the pool", async () => {
    answers = { now: [1000], pool: [2000] };
    expect(await transfer(direction)).toBe(0);
    expect(asked).toEqual([`now ${direction} 8192 in 2`, `pool ${direction} 9192 in 1`]);
  });

  it("goes on after short transfers and interruptions until all is done", async () => {
    answers = { now: [-EAGAIN], pool: [500, -EINTR, 500, 1999, 1] };
    expect(await transfer(direction)).toBe(0);
    expect(asked.slice(1)).toEqual([
      `pool ${direction} 8192 in 2`,
      `pool ${direction} 8692 in 2`,
      `pool ${direction} 8692 in 2`,
      `pool ${direction} 9192 in 1`,
      `pool ${direction} 11191 in 1`,
    ]);
  });

  it("does not try again what the file system cannot do without waiting", async () => {
    const io = new FileIo(FD, new IoPool(4).openLane(), true);
    answers = { now: [-EOPNOTSUPP], pool: [3000, 3000] };
    expect([await transfer(direction, io), await transfer(direction, io)]).toEqual([0, 0]);
    expect(asked.filter((what) => what.startsWith("now"))).toHaveLength(1);
  });

  it("waits on the pool where there is no page cache", async () => {
    answers.pool = [3000];
    expect(await transfer(direction, new FileIo(FD, new IoPool(4).openLane(), false))).toBe(0);
    expect(asked).toEqual([`pool ${direction} 8192 in 2`]);
  });

  it("ends with the error, or EIO where nothing is moved any more", async () => {
    answers = { now: [-EAGAIN], pool: [100, -ENOSPC] };
    expect(await transfer(direction)).toBe(ENOSPC);
    answers = { now: [1000], pool: [0] };
    expect(await transfer(direction)).toBe(EIO);
  });
});

describe("a large transfer", () => {
  it("does not hold up the event loop by copying", async () => {
    using vector = new IoVector();
    vector.append(0x10000, 257 * 1024);
    answers.pool = [257 * 1024];
    const io = new FileIo(FD, new IoPool(4).openLane(), true);
    expect(await new Promise((resolve) => io.read(0, vector, { completed: resolve }))).toBe(0);
    expect(asked).toEqual(["pool read 0 in 1"]);
  });
});

describe("a sync", () => {
  it("is tried again when interrupted, and reports errors", async () => {
    const io = new FileIo(FD, new IoPool(4).openLane(), true);
    const sync = () => new Promise((resolve) => io.sync({ completed: resolve }));
    answers.pool = [-EINTR, 0];
    expect(await sync()).toBe(0);
    answers.pool = [-EIO];
    expect(await sync()).toBe(EIO);
  });
});
