import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { Aio } from "./aio.ts";
import { check, SysError } from "./errors.ts";
import { OwnedFd, setNonBlocking } from "./fd.ts";
import { readPacket } from "./frame-io.ts";
import { FrameWriter, WRITE_BATCH } from "./frame-writer.ts";
import { IovecBlock } from "./iovec.ts";
import { libc } from "./libc.ts";
import { Mapping } from "./mapping.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const EPERM = 1;
const EBADF = 9;
const EAGAIN = 11;
const EFAULT = 14;
const FRAME_BYTES = 100;
/** Where nothing is mapped. */
const NOWHERE = 8;

let resources: DisposableStack;
let near: OwnedFd;
let far: OwnedFd;
let memory: Mapping;
let iovecs: IovecBlock;
beforeEach(() => {
  resources = new DisposableStack();
  const fds = new Int32Array(new ArrayBuffer(8));
  check("socketpair", libc().socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
  [near, far] = [resources.use(new OwnedFd(fds[0] ?? -1)), resources.use(new OwnedFd(fds[1] ?? -1))];
  for (const { fd } of [near, far]) setNonBlocking(fd);
  memory = resources.use(Mapping.anonymous(4096));
  new Uint8Array(memory.buffer).forEach((_, i, bytes) => {
    bytes[i] = i / FRAME_BYTES;
  });
  iovecs = resources.use(new IovecBlock(64));
});
afterEach(() => resources.dispose());

/** `count` frames of two parts each, filled with their number; those in `broken` have their second part nowhere. */
function frames(count: number, broken: readonly number[] = []) {
  for (let i = 0; i < count; i++) {
    const at = memory.hostAddress + i * FRAME_BYTES;
    iovecs.set(2 * i, at, 1 + i);
    iovecs.set(2 * i + 1, broken.includes(i) ? NOWHERE : at + 1 + i, FRAME_BYTES - 1 - i);
  }
  return { iovecs, ends: Uint16Array.from({ length: count }, (_, i) => 2 * (i + 1)) };
}

/** The numbers of the frames that came, which are whole. */
function received(): number[] {
  const numbers: number[] = [];
  const target = new Uint8Array(new ArrayBuffer(4096));
  for (let length = readPacket(far.fd, target); length > 0; length = readPacket(far.fd, target)) {
    expect(new Set(target.subarray(0, length))).toEqual(new Set([target[0]]));
    expect(length).toBe(FRAME_BYTES);
    numbers.push(target[0] ?? -1);
  }
  return numbers;
}

/** A writer that tells how often it has opened what it writes several frames with. */
function writer(open: (capacity: number) => Aio) {
  let opened = 0;
  const counting = (capacity: number) => {
    opened++;
    return open(capacity);
  };
  return { writer: resources.use(new FrameWriter(counting)), opened: () => opened };
}

const refuses = (): Aio => {
  throw new SysError("io_setup", EPERM);
};
const range = (count: number) => Array.from({ length: count }, (_, i) => i);

describe.each([
  ["together", Aio.open],
  ["one by one, where the kernel refuses", refuses],
])("frames that are written %s", (_how, open) => {
  it.each([1, 4, WRITE_BATCH])("go out whole and in order, %i of them", (count) => {
    const results = new Int32Array(WRITE_BATCH);
    writer(open).writer.write(near.fd, frames(count), count, results);
    expect([...results.subarray(0, count)]).toEqual(new Array(count).fill(FRAME_BYTES));
    expect(received()).toEqual(range(count));
  });

  it("fail each for itself", () => {
    const results = new Int32Array(WRITE_BATCH);
    writer(open).writer.write(near.fd, frames(6, [0, 3]), 6, results);
    expect([...results.subarray(0, 6)]).toEqual([-EFAULT, 100, 100, -EFAULT, 100, 100]);
    expect(received()).toEqual([1, 2, 4, 5]);
  });

  it("are refused where there is no room", () => {
    const results = new Int32Array(WRITE_BATCH);
    const { writer: its } = writer(open);
    const all: number[] = [];
    for (let i = 0; i < 40; i++) {
      its.write(near.fd, frames(WRITE_BATCH), WRITE_BATCH, results);
      all.push(...results);
    }
    const room = all.indexOf(-EAGAIN);
    expect(room).toBeGreaterThan(0);
    expect(all.slice(room)).toEqual(new Array(all.length - room).fill(-EAGAIN));
    expect(received()).toEqual(range(room).map((i) => i % WRITE_BATCH));
  });

  it("are refused where there is no file", () => {
    const results = new Int32Array(WRITE_BATCH);
    writer(open).writer.write(-1, frames(5), 5, results);
    expect([...results.subarray(0, 5)]).toEqual(new Array(5).fill(-EBADF));
  });

  it("open what writes several once, and when there are several", () => {
    const made = writer(open);
    const results = new Int32Array(WRITE_BATCH);
    made.writer.write(near.fd, frames(3), 3, results);
    expect(made.opened()).toBe(0);
    for (let i = 0; i < 3; i++) made.writer.write(near.fd, frames(4), 4, results);
    expect(made.opened()).toBe(1);
  });
});

describe("operations that go to the kernel together", () => {
  it("go on behind one that it does not even begin", () => {
    using aio = Aio.open(4);
    frames(4);
    const results = new Int32Array(4);
    [near.fd, -1, -1, near.fd].forEach((fd, i) => {
      aio.addWritev(fd, iovecs.address(2 * i), 2);
    });
    aio.run(results);
    expect([...results]).toEqual([100, -EBADF, -EBADF, 100]);
    expect(received()).toEqual([0, 3]);
  });

  it("are no more than there is room for", () => {
    using aio = Aio.open(1);
    frames(1);
    aio.addWritev(near.fd, iovecs.address(), 2);
    expect(() => aio.addWritev(near.fd, iovecs.address(), 2)).toThrow(RangeError);
  });

  it("need a kernel that has room for them", () => {
    expect(() => Aio.open(1 << 28)).toThrow(SysError);
  });
});
