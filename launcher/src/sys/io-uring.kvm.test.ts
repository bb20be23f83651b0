// In this tier because a container's seccomp profile may forbid io_uring, as it hides /dev/kvm.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { OwnedFd } from "./fd.ts";
import { type IoDone, openFile } from "./file-io.ts";
import { lockFile } from "./file-lock.ts";
import { IoUring, RING_FILES } from "./io-uring.ts";
import { IovecBlock } from "./iovec.ts";
import { Mapping } from "./mapping.ts";

const EBADF = 9;
const SIZE = 1 << 20;
const BLOCK = 4096;

let directory: string;
let path: string;
let resources: DisposableStack;
let ring: IoUring;
let memory: Mapping;
let iovecs: IovecBlock;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "io-uring-"));
  path = join(directory, "disk.img");
  writeFileSync(
    path,
    Uint8Array.from({ length: SIZE }, (_, i) => (i >>> 12) & 0xff),
  );
  resources = new DisposableStack();
  memory = resources.use(Mapping.anonymous(SIZE));
  iovecs = resources.use(new IovecBlock(256));
  ring = resources.use(IoUring.open(32));
});
afterEach(() => {
  resources.dispose();
  rmSync(directory, { recursive: true });
});

const open = (options: { write?: boolean; direct?: boolean } = { write: true }): OwnedFd =>
  resources.use(openFile(path, options));
const result = (start: (done: IoDone) => void) => new Promise<number>((resolve) => start(resolve));
const bytes = () => new Uint8Array(memory.buffer);

describe("io_uring", () => {
  it.each([
    ["through the page cache", false],
    ["past the page cache", true],
  ])("reads and writes scattered memory %s", async (_name, direct) => {
    const file = ring.addFile(open({ write: true, direct }).fd) ?? -1;
    iovecs.set(0, memory.hostAddress + 5 * BLOCK, BLOCK);
    iovecs.set(1, memory.hostAddress, 2 * BLOCK);
    expect(await result((done) => ring.readv(file, iovecs, 2, 7 * BLOCK, done))).toBe(3 * BLOCK);
    expect([5, 0, 1, 2].map((block) => bytes()[block * BLOCK])).toEqual([7, 8, 9, 0]);
    bytes().fill(0xab, 0, BLOCK);
    expect(await result((done) => ring.writev(file, iovecs, 2, 100 * BLOCK, done))).toBe(3 * BLOCK);
    expect(await result((done) => ring.fdatasync(file, done))).toBe(0);
    const written = readFileSync(path);
    expect([99, 100, 101, 102, 103].map((block) => written[block * BLOCK])).toEqual([99, 7, 0xab, 9, 103]);
  });

  it("keeps many operations apart", async () => {
    const file = ring.addFile(open({ direct: true }).fd) ?? -1;
    const blocks = Array.from({ length: 32 }, (_, i) => {
      const block = resources.use(new IovecBlock(1));
      block.set(0, memory.hostAddress + i * BLOCK, BLOCK);
      return block;
    });
    for (let round = 0; round < 20; round++) {
      const at = (i: number) => (i * 37 + round * 11) % 256;
      const results = blocks.map((block, i) => result((done) => ring.readv(file, block, 1, at(i) * BLOCK, done)));
      expect(await Promise.all(results)).toEqual(blocks.map(() => BLOCK));
      expect(blocks.map((_, i) => bytes()[i * BLOCK])).toEqual(blocks.map((_, i) => at(i)));
    }
  });

  it("punches holes and zeroes ranges", async () => {
    const file = ring.addFile(open().fd) ?? -1;
    expect(await result((done) => ring.punchHole(file, 2 * BLOCK, BLOCK, done))).toBe(0);
    expect(await result((done) => ring.zeroRange(file, 4 * BLOCK, BLOCK, done))).toBe(0);
    const content = readFileSync(path);
    expect(content.length).toBe(SIZE);
    expect([1, 2, 3, 4, 5].map((block) => content[block * BLOCK])).toEqual([1, 0, 3, 0, 5]);
  });

  it("reports the end of a file, and errors", async () => {
    const file = ring.addFile(open({}).fd) ?? -1;
    iovecs.set(0, memory.hostAddress, 2 * BLOCK);
    expect(await result((done) => ring.readv(file, iovecs, 1, SIZE - BLOCK, done))).toBe(BLOCK);
    expect(await result((done) => ring.readv(file, iovecs, 1, SIZE, done))).toBe(0);
    expect(await result((done) => ring.writev(file, iovecs, 1, 0, done))).toBe(-EBADF);
    expect(await result((done) => ring.readv(RING_FILES - 1, iovecs, 1, 0, done))).toBe(-EBADF);
  });

  it("has room for so many files", () => {
    const { fd } = open();
    expect(Array.from({ length: RING_FILES + 1 }, () => ring.addFile(fd))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, null]);
  });

  it("lets go of a locked file when it is closed", async () => {
    for (let i = 0; i < 20; i++) {
      using fd = openFile(path, { write: true });
      expect(lockFile(fd.fd, "exclusive")).not.toBe("taken");
      using own = IoUring.open(8);
      const file = own.addFile(fd.fd) ?? -1;
      iovecs.set(0, memory.hostAddress, BLOCK);
      expect(await result((done) => own.writev(file, iovecs, 1, 0, done))).toBe(BLOCK);
    }
  });
});
