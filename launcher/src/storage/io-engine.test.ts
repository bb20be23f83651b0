import { describe, expect, it } from "@jest/globals";
import { SysError } from "../sys/errors.ts";
import type { IoDone } from "../sys/file-io.ts";
import type { IoUring } from "../sys/io-uring.ts";
import type { IovecBlock } from "../sys/iovec.ts";
import { FileIo } from "./file-io.ts";
import { openIoEngine } from "./io-engine.ts";
import { IoVector } from "./io-vector.ts";

const EPERM = 1;
const EINTR = 4;
const ENOSPC = 28;

/** A ring whose operations end when the test says so. */
class FakeRing {
  readonly capacity = 2;
  readonly asked: string[] = [];
  readonly #pending: IoDone[] = [];
  isClosed = false;
  files = 0;

  addFile(): number | null {
    return this.files === 1 ? null : this.files++;
  }

  readv(file: number, _iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
    this.#ask(`read file ${file} ${offsetBytes} in ${count}`, done);
  }

  writev(file: number, _iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
    this.#ask(`write file ${file} ${offsetBytes} in ${count}`, done);
  }

  fdatasync(file: number, done: IoDone): void {
    this.#ask(`sync file ${file}`, done);
  }

  punchHole(file: number, offsetBytes: number, lengthBytes: number, done: IoDone): void {
    this.#ask(`punch file ${file} ${offsetBytes}+${lengthBytes}`, done);
  }

  zeroRange(file: number, offsetBytes: number, lengthBytes: number, done: IoDone): void {
    this.#ask(`zero file ${file} ${offsetBytes}+${lengthBytes}`, done);
  }

  end(result: number): void {
    this.#pending.shift()?.(result);
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
  }

  #ask(what: string, done: IoDone): void {
    this.asked.push(what);
    this.#pending.push(done);
  }
}

function setUp() {
  const rings: FakeRing[] = [];
  const engine = openIoEngine(() => {
    const ring = new FakeRing();
    rings.push(ring);
    return ring as unknown as IoUring;
  });
  const lane = engine.pool.openLane();
  const [probe, ring] = rings;
  if (!probe || !ring) throw new Error("no ring");
  const io = new FileIo(7, lane, false);
  const vector = new IoVector();
  vector.append(0x10000, 1000);
  vector.append(0x20000, 2000);
  const ended: number[] = [];
  return {
    engine,
    probe,
    ring,
    lane,
    io,
    vector,
    ended,
    completion: { completed: (errno: number) => ended.push(errno) },
  };
}

describe("the I/O engine", () => {
  it("is io_uring where a ring can be had, with one for each disk", () => {
    const { engine, probe, ring } = setUp();
    expect([engine.name, engine.reason, probe.isClosed, ring.isClosed]).toEqual(["io_uring", null, true, false]);
  });

  it("is threads where the kernel has none or forbids it, and says why", () => {
    const engine = openIoEngine(() => {
      throw new SysError("io_uring_setup", EPERM);
    });
    expect([engine.name, engine.reason]).toEqual([
      "threads",
      "io_uring_setup: operation not permitted (EPERM): the container's seccomp profile or kernel.io_uring_disabled forbids it",
    ]);
    expect(engine.pool.openLane().file(7).calls.constructor.name).toBe("PoolCalls");
  });

  it("does without a ring for a disk that there is none for any more", () => {
    let left = 2;
    const engine = openIoEngine(() => {
      if (left-- === 0) throw new Error("EMFILE");
      return new FakeRing() as unknown as IoUring;
    });
    const lanes = [engine.pool.openLane(), engine.pool.openLane()];
    expect(lanes.map((lane) => lane.file(7).calls.constructor.name)).toEqual(["RingCalls", "PoolCalls"]);
  });
});

describe("a disk with a ring", () => {
  it("does everything that waits in it", () => {
    const { ring, io, vector, completion, ended } = setUp();
    const steps = [
      () => io.read(4096, vector, completion),
      () => io.sync(completion),
      () => io.punchHole(0, 512, completion),
      () => io.zeroRange(512, 1024, completion),
    ];
    for (const step of steps) {
      step();
      ring.end(ring.asked.length === 1 ? 3000 : 0);
    }
    expect(ring.asked).toEqual(["read file 0 4096 in 2", "sync file 0", "punch file 0 0+512", "zero file 0 512+1024"]);
    expect(ended).toEqual([0, 0, 0, 0]);
  });

  it("goes on after short writes and interruptions, and reports errors", () => {
    const { ring, io, vector, completion, ended } = setUp();
    io.write(0, vector, completion);
    for (const result of [1500, -EINTR, 500, -ENOSPC]) ring.end(result);
    expect(ring.asked).toEqual([
      "write file 0 0 in 2",
      "write file 0 1500 in 1",
      "write file 0 1500 in 1",
      "write file 0 2000 in 1",
    ]);
    expect(ended).toEqual([ENOSPC]);
  });

  it("has no more under way than the ring takes, and closes when all of it has ended", async () => {
    const { ring, lane, io, completion, ended } = setUp();
    for (let i = 0; i < 3; i++) io.sync(completion);
    expect(ring.asked).toHaveLength(2);
    const closing = lane.close();
    ring.end(0);
    expect(ring.asked).toHaveLength(3);
    ring.end(0);
    await new Promise((resolve) => setImmediate(resolve));
    expect(ring.isClosed).toBe(false);
    ring.end(0);
    await closing;
    expect([ring.isClosed, ended]).toEqual([true, [0, 0, 0]]);
  });

  it("uses threads for files that the ring has no room for", () => {
    const { lane } = setUp();
    expect(lane.file(8).calls.constructor.name).toBe("PoolCalls");
  });
});
