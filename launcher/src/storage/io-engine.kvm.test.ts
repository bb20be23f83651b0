// Needs root, for block devices, and a kernel that lets us use io_uring. Nothing is sent to KVM.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { openIoEngine } from "./io-engine.ts";
import { IoPool } from "./io-pool.ts";
import { openRawDisk, type RawDisk } from "./raw-disk.ts";
import { finish, MemoryBuffer, readDisk, writeDisk } from "./testing/memory-buffer.ts";

const BLOCK = 4096;
const SIZE = 4 << 20;

let directory: string;
let cleanup: AsyncDisposableStack;

beforeEach(() => {
  cleanup = new AsyncDisposableStack();
  directory = mkdtempSync(join(tmpdir(), "io-engine-"));
  cleanup.defer(() => rmSync(directory, { recursive: true }));
});
afterEach(() => cleanup.disposeAsync());

/** A block device of SIZE bytes and its backing file; its blocks are of BLOCK bytes. */
function blockDevice(): { path: string; backing: string } {
  const backing = join(directory, "backing");
  writeFileSync(
    backing,
    Uint8Array.from({ length: SIZE }, (_, i) => (i >>> 9) & 0xff),
  );
  const options = ["--sector-size", String(BLOCK), "--find", "--show", backing];
  const device = execFileSync("losetup", options, { encoding: "utf8" }).trim();
  cleanup.defer(() => void execFileSync("losetup", ["--detach", device]));
  const [major = "", minor = ""] = readFileSync(`/sys/block/${basename(device)}/dev`, "utf8")
    .trim()
    .split(":");
  const path = `/dev/shm/${basename(directory)}`;
  execFileSync("mknod", ["-m", "0600", path, "b", major, minor]);
  cleanup.defer(() => rmSync(path));
  return { path, backing };
}

function ringPool(): IoPool {
  const { name, reason, pool } = openIoEngine();
  if (name !== "io_uring") throw new Error(`these tests need io_uring: ${reason}`);
  return pool;
}

describe.each([
  ["io_uring", ringPool],
  ["threads", () => new IoPool()],
])("a block device with blocks of 4096 bytes, by %s", (_name, poolOf) => {
  let disk: RawDisk;
  let backing: string;

  beforeEach(async () => {
    const device = blockDevice();
    backing = device.backing;
    disk = await openRawDisk("data", device.path, poolOf(), { readOnly: false });
    cleanup.defer(() => disk.close());
  });

  it("tells the guest of its blocks, and takes those and parts of them", async () => {
    expect([disk.logicalBlockBytes, disk.sizeBytes]).toEqual([BLOCK, SIZE]);
    expect(await writeDisk(disk, 2 * BLOCK, new Uint8Array(BLOCK).fill(0xaa))).toBe(0);
    expect(await writeDisk(disk, 4 * BLOCK + 512, new Uint8Array(512).fill(0xbb))).toBe(0);
    expect(await readDisk(disk, 2 * BLOCK, BLOCK)).toEqual(new Uint8Array(BLOCK).fill(0xaa));
    expect(await readDisk(disk, 4 * BLOCK, 1024)).toEqual(
      Uint8Array.from({ length: 1024 }, (_, i) => (i < 512 ? 32 : 0xbb)),
    );
    expect(await finish((done) => disk.flush(done))).toBe(0);
    const file = readFileSync(backing);
    expect([file[2 * BLOCK], file[3 * BLOCK], file[4 * BLOCK], file[4 * BLOCK + 512]]).toEqual([0xaa, 24, 32, 0xbb]);
  });

  it("takes memory of any alignment", async () => {
    using memory = new MemoryBuffer(3 * BLOCK);
    memory.bytes.fill(0xcc, 3, 3 + BLOCK);
    using source = memory.vector(3, BLOCK);
    expect(await finish((done) => disk.write(BLOCK, source, done))).toBe(0);
    using target = memory.vector(BLOCK + 7, BLOCK);
    expect(await finish((done) => disk.read(BLOCK, target, done))).toBe(0);
    expect(memory.bytes.slice(BLOCK + 7, 2 * BLOCK + 7)).toEqual(new Uint8Array(BLOCK).fill(0xcc));
  });

  it("discards and zeroes", async () => {
    expect(await finish((done) => disk.writeZeroes(BLOCK, 2 * BLOCK, true, done))).toBe(0);
    expect(await finish((done) => disk.discard(8 * BLOCK, BLOCK, done))).toBe(0);
    expect(await readDisk(disk, BLOCK, 2 * BLOCK)).toEqual(new Uint8Array(2 * BLOCK));
    expect((await readDisk(disk, 3 * BLOCK, BLOCK))[0]).toBe(24);
  });

  it("does many requests at the same time, each its own", async () => {
    const blocks = Array.from({ length: 200 }, (_, i) => (i * 61) % (SIZE / BLOCK));
    const write = (block: number) => writeDisk(disk, block * BLOCK, new Uint8Array(BLOCK).fill(block & 0xff));
    expect(new Set(await Promise.all(blocks.map(write)))).toEqual(new Set([0]));
    const read = await Promise.all(blocks.map((block) => readDisk(disk, block * BLOCK, BLOCK)));
    expect(read.map((bytes) => [bytes[0], bytes[BLOCK - 1]])).toEqual(
      blocks.map((block) => [block & 0xff, block & 0xff]),
    );
  });
});

describe("a disk with a ring", () => {
  it("is flushed and punched while all threads are busy with disks that hang", async () => {
    const pool = ringPool();
    const hanging: (() => void)[] = [];
    for (let i = 0; i < 4; i++) {
      const lane = pool.openLane();
      for (let j = 0; j < 4; j++) lane.run({ start: (done) => void hanging.push(() => done(0)), ended: () => {} });
      cleanup.defer(() => lane.close());
    }
    // Their ends start those that wait.
    cleanup.defer(() => {
      for (let end = hanging.pop(); end; end = hanging.pop()) end();
    });
    const path = join(directory, "disk");
    writeFileSync(path, new Uint8Array(SIZE));
    const disk = await openRawDisk("data", path, pool, { readOnly: false });
    cleanup.defer(() => disk.close());
    expect(await finish((done) => disk.discard(0, BLOCK, done))).toBe(0);
    expect(await finish((done) => disk.flush(done))).toBe(0);
  });
});
