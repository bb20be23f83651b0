import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { DiskError } from "./disk-error.ts";
import { IoPool } from "./io-pool.ts";
import { IoVector } from "./io-vector.ts";
import { openRawDisk } from "./raw-disk.ts";
import { finish, MemoryBuffer, readDisk, writeDisk } from "./testing/memory-buffer.ts";

// Many cases, or many operations: they take long where other work runs too.
jest.setTimeout(60_000);

const EIO = 5;
const EBADF = 9;
const SIZE = 1 << 20;

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "raw-disk-"));
  path = join(directory, "disk.img");
  writeFileSync(
    path,
    Uint8Array.from({ length: SIZE }, (_, i) => (i >>> 9) & 0xff),
  );
});
afterEach(() => rmSync(directory, { recursive: true }));

const open = (options: { readOnly?: boolean; direct?: boolean } = {}) =>
  openRawDisk("data", path, new IoPool(), { readOnly: false, ...options });

describe.each([
  ["through the page cache", false],
  ["past the page cache", true],
])("a raw disk %s", (_name, direct) => {
  it("reads and writes in place", async () => {
    const disk = await open({ direct });
    expect(disk.sizeBytes).toBe(SIZE);
    expect(await readDisk(disk, 1024, 512)).toEqual(new Uint8Array(512).fill(2));
    expect(await writeDisk(disk, 4096, new Uint8Array(8192).fill(0xab))).toBe(0);
    expect(await readDisk(disk, 4096, 8192)).toEqual(new Uint8Array(8192).fill(0xab));
    expect(await finish((completion) => disk.flush(completion))).toBe(0);
    await disk.close();
    const file = readFileSync(path);
    expect([file[4095], file[4096], file[12287], file[12288]]).toEqual([7, 0xab, 0xab, 24]);
  });

  it("reads more than is done at once, into scattered memory of any alignment", async () => {
    const disk = await open({ direct });
    using buffer = new MemoryBuffer(SIZE);
    using vector = new IoVector();
    let at = 0;
    for (let i = 0; i < 200; i++) {
      vector.append(buffer.hostAddress + at, 1000 + i);
      at += 1000 + i + 8;
    }
    const lengthBytes = Math.floor(vector.lengthBytes / 512) * 512;
    using part = new IoVector();
    part.appendPart(vector, 0, lengthBytes);
    expect(await finish((completion) => disk.read(512, part, completion))).toBe(0);
    expect([buffer.bytes[0], buffer.bytes[511], buffer.bytes[512]]).toEqual([1, 1, 2]);
    expect([buffer.bytes[999], buffer.bytes[1000], buffer.bytes[1008]]).toEqual([2, 0, 2]);
    await disk.close();
  });
});

describe("a raw disk", () => {
  it("gives storage back for discards, and reads zeroes then", async () => {
    const disk = await open();
    await finish((completion) => disk.flush(completion));
    const before = statSync(path).blocks;
    expect(await finish((completion) => disk.discard(65536, 131072, completion))).toBe(0);
    expect(await readDisk(disk, 65536, 131072)).toEqual(new Uint8Array(131072));
    expect(statSync(path).blocks).toBeLessThan(before);
    expect(statSync(path).size).toBe(SIZE);
    await disk.close();
  });

  it.each([true, false])("writes zeroes, with unmap %s", async (mayUnmap) => {
    const disk = await open();
    expect(await finish((completion) => disk.writeZeroes(512, 9 * 512, mayUnmap, completion))).toBe(0);
    expect(await readDisk(disk, 0, 512)).toEqual(new Uint8Array(512));
    expect(await readDisk(disk, 512, 9 * 512)).toEqual(new Uint8Array(9 * 512));
    expect(await readDisk(disk, 10 * 512, 512)).toEqual(new Uint8Array(512).fill(10));
    await disk.close();
  });

  it("reports an error where the file was cut short behind its back", async () => {
    const disk = await open();
    truncateSync(path, 4096);
    using buffer = new MemoryBuffer(8192);
    using vector = buffer.vector(0, 8192);
    expect(await finish((completion) => disk.read(0, vector, completion))).toBe(EIO);
    await disk.close();
  });

  it("reports an error for writes to a disk that was opened read-only", async () => {
    const disk = await open({ readOnly: true });
    expect(await writeDisk(disk, 0, new Uint8Array(512))).toBe(EBADF);
    await disk.close();
  });

  it("runs many operations at the same time", async () => {
    const disk = await open({ direct: true });
    const results = await Promise.all(Array.from({ length: 64 }, (_, i) => readDisk(disk, i * 4096, 4096)));
    expect(results.map((bytes) => bytes[0])).toEqual(Array.from({ length: 64 }, (_, i) => (i * 8) & 0xff));
    await disk.close();
  });
});

describe("growing a raw disk", () => {
  it("extends its file, and reads zeroes there", async () => {
    const disk = await open();
    await disk.grow(4 * SIZE);
    expect([disk.sizeBytes, statSync(path).size]).toEqual([4 * SIZE, 4 * SIZE]);
    expect(await readDisk(disk, 4 * SIZE - 512, 512)).toEqual(new Uint8Array(512));
    expect(await writeDisk(disk, 2 * SIZE, new Uint8Array(512).fill(3))).toBe(0);
    expect(await readDisk(disk, 512, 512)).toEqual(new Uint8Array(512).fill(1));
    await disk.close();
  });

  it("to the size that it has changes nothing, and it never shrinks", async () => {
    const disk = await open();
    await disk.grow(SIZE);
    await expect(disk.grow(SIZE / 2)).rejects.toThrow(DiskError);
    await expect(disk.grow(SIZE / 2)).rejects.toThrow(/^disk data: .* has 1048576 bytes, and a disk does not shrink/);
    expect([disk.sizeBytes, statSync(path).size]).toEqual([SIZE, SIZE]);
    await disk.close();
  });

  it("takes what its file has already, where that is larger", async () => {
    const disk = await open();
    truncateSync(path, 3 * SIZE);
    await disk.grow(2 * SIZE);
    expect([disk.sizeBytes, statSync(path).size]).toEqual([3 * SIZE, 3 * SIZE]);
    await disk.close();
  });

  it("does not extend a file that it may only read", async () => {
    const disk = await open({ readOnly: true });
    await expect(disk.grow(2 * SIZE)).rejects.toThrow(/has 1048576 bytes, fewer than the 2097152 asked for; enlarge/);
    truncateSync(path, 2 * SIZE);
    await disk.grow(2 * SIZE);
    expect(disk.sizeBytes).toBe(2 * SIZE);
    await disk.close();
  });

  it("says when the file shrank behind its back", async () => {
    const disk = await open({ readOnly: true });
    truncateSync(path, 512);
    await expect(disk.grow(SIZE)).rejects.toThrow(/has shrunk to 512 bytes under the disk/);
    expect(disk.sizeBytes).toBe(SIZE);
    await disk.close();
  });
});

describe("opening a raw disk", () => {
  const refused = async (message: RegExp, at = path, readOnly = false) => {
    const opening = openRawDisk("data", at, new IoPool(), { readOnly });
    await expect(opening).rejects.toThrow(DiskError);
    await expect(opening).rejects.toThrow(message);
  };

  it("refuses one that another machine writes, until that has closed it", async () => {
    const disk = await open();
    await refused(/^disk data: .* in use by another virtual machine/);
    await refused(/in use/, path, true);
    await disk.close();
    await (await open()).close();
  });

  it("lets several read", async () => {
    const [one, two] = [await open({ readOnly: true }), await open({ readOnly: true })];
    await refused(/in use/);
    await one.close();
    await two.close();
  });

  it("leaves no lock behind when it fails", async () => {
    truncateSync(path, 1000);
    await refused(/1000 bytes, which is not a positive multiple of 512; extend it with truncate/);
    truncateSync(path, 1024);
    await (await open()).close();
  });

  it("refuses what is empty, missing, a directory or a FIFO", async () => {
    writeFileSync(path, "");
    await refused(/has 0 bytes/);
    await refused(
      /missing\.img cannot be found .*ENOENT.*; check that its volume is mounted/,
      join(directory, "missing.img"),
    );
    await refused(/neither a regular file nor a block device/, directory);
    const fifo = join(directory, "fifo");
    execFileSync("mkfifo", [fifo]);
    await refused(/neither a regular file nor a block device/, fifo, true);
  });
});
