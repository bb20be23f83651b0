import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { openFile } from "../sys/file-io.ts";
import { IoPool } from "./io-pool.ts";
import { IoVector } from "./io-vector.ts";
import { RawDisk } from "./raw-disk.ts";
import { finish, MemoryBuffer } from "./testing/memory-buffer.ts";

const EBADF = 9;
const SIZE = 1 << 20;
const BLOCK = 4096;

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "raw-disk-direct-"));
  path = join(directory, "disk.img");
  writeFileSync(
    path,
    Uint8Array.from({ length: SIZE }, (_, i) => (i >>> 9) & 0xff),
  );
});
afterEach(() => rmSync(directory, { recursive: true }));

/**
 * As on a device with blocks of 4096 bytes, which not every machine can be given. Only what goes past the page cache
 * can be written, unless `buffered`.
 */
function diskOf({ buffered = false } = {}): RawDisk {
  return new RawDisk({
    name: "data",
    path,
    fd: openFile(path, { write: buffered }),
    directFd: openFile(path, { write: true, direct: true }),
    lane: new IoPool().openLane(),
    sizeBytes: SIZE,
    isBlockDevice: true,
    readOnly: false,
    isEphemeral: false,
    incoming: null,
    logicalBlockBytes: BLOCK,
  });
}

describe("a disk past the page cache, with blocks of 4096 bytes", () => {
  it("takes memory of any alignment", async () => {
    const disk = diskOf();
    using memory = new MemoryBuffer(8 * BLOCK);
    using scattered = new IoVector();
    memory.bytes.fill(0xcd);
    scattered.append(memory.hostAddress + 1, 1000);
    scattered.append(memory.hostAddress + 3000, 2 * BLOCK - 1000);
    memory.bytes.fill(0xab, 1, 1001);
    expect(await finish((done) => disk.write(BLOCK, scattered, done))).toBe(0);
    const file = readFileSync(path);
    expect(file.subarray(BLOCK, BLOCK + 1000).every((byte) => byte === 0xab)).toBe(true);
    expect(file.subarray(BLOCK + 1000, 3 * BLOCK).every((byte) => byte === 0xcd)).toBe(true);
    expect([file[BLOCK - 1], file[3 * BLOCK]]).toEqual([7, 24]);

    using target = memory.vector(4 * BLOCK + 7, BLOCK);
    expect(await finish((done) => disk.read(5 * BLOCK, target, done))).toBe(0);
    expect(memory.bytes.slice(4 * BLOCK + 7, 5 * BLOCK + 7)).toEqual(
      new Uint8Array(file.subarray(5 * BLOCK, 6 * BLOCK)),
    );
    await disk.close();
  });

  it("writes whole blocks from aligned memory", async () => {
    const disk = diskOf();
    using memory = new MemoryBuffer(BLOCK);
    memory.bytes.fill(0xee);
    using vector = memory.vector(0, BLOCK);
    expect(await finish((done) => disk.write(2 * BLOCK, vector, done))).toBe(0);
    await disk.close();
    expect(readFileSync(path)[2 * BLOCK]).toBe(0xee);
  });

  it("reads and writes parts of blocks too, through the page cache", async () => {
    const disk = diskOf({ buffered: true });
    using memory = new MemoryBuffer(1024);
    memory.bytes.fill(0x11, 0, 512);
    using source = memory.vector(0, 512);
    expect(await finish((done) => disk.write(512, source, done))).toBe(0);
    using target = memory.vector(512, 512);
    expect(await finish((done) => disk.read(512, target, done))).toBe(0);
    await disk.close();
    const file = readFileSync(path);
    expect([file[511], file[512], file[1023], file[1024], memory.bytes[512]]).toEqual([0, 0x11, 0x11, 2, 0x11]);
  });

  it("would not write parts of blocks elsewhere", async () => {
    const disk = diskOf();
    using memory = new MemoryBuffer(512);
    using vector = memory.vector(0, 512);
    expect(await finish((done) => disk.write(512, vector, done))).toBe(EBADF);
    await disk.close();
  });
});
