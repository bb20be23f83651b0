import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, jest } from "@jest/globals";
import fc from "fast-check";
import { openImageDisk } from "../image-disk.ts";
import { IoPool } from "../io-pool.ts";
import { openDisks } from "../open-disks.ts";
import type { OverlayDisk } from "../overlay-disk.ts";
import { finish, readDisk, writeDisk } from "../testing/memory-buffer.ts";
import { convertFromRaw, convertToRaw, corpus, makeImage } from "./testing/corpus.ts";

// Every image is made by other programs, and read byte by byte.
jest.setTimeout(120_000);

const SECTOR = 512;
const READ_BYTES = 1 << 20;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "qcow2-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

let overlays = 0;
function openImage(path: string, onDamage?: (problem: string) => void): OverlayDisk {
  const overlayPath = join(directory, `overlay-${overlays++}`);
  const source = { imageRoot: directory, path: path.slice(directory.length), overlayPath };
  return openImageDisk("root", source, new IoPool(), { readOnly: false, onDamage });
}

/** As toEqual, in a fraction of the time. */
function expectSame(actual: Uint8Array, expected: Uint8Array, what: string) {
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  throw new Error(`${what}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

async function expectReadsAs(disk: OverlayDisk, expected: Uint8Array) {
  for (let at = 0; at < expected.length; at += READ_BYTES) {
    const part = expected.subarray(at, at + READ_BYTES);
    expectSame(await readDisk(disk, at, part.length), part, `at ${at}`);
  }
}

describe("a qcow2 image reads as qemu-img converts it", () => {
  it.each(corpus)("$name", async (made) => {
    const path = makeImage(directory, made);
    const expected = convertToRaw(path);
    const damage: string[] = [];
    const disk = openImage(path, (problem) => damage.push(problem));
    expect(disk.sizeBytes).toBe(expected.length);
    expect(disk.sizeBytes).toBe(Math.ceil(made.sizeBytes / SECTOR) * SECTOR);
    await expectReadsAs(disk, expected);
    // In pieces that begin and end anywhere, many at a time.
    const sectors = expected.length / SECTOR;
    const piece = fc.tuple(fc.nat(sectors - 1), fc.integer({ min: 1, max: 300 }));
    for (const batch of fc.sample(fc.array(piece, { minLength: 8, maxLength: 8 }), { numRuns: 20, seed: 1 }))
      await Promise.all(
        batch.map(async ([first, count]) => {
          const [from, to] = [first * SECTOR, Math.min(sectors, first + count) * SECTOR];
          expectSame(await readDisk(disk, from, to - from), expected.subarray(from, to), `from ${from}`);
        }),
      );
    await disk.close();
    expect(damage).toEqual([]);
  });

  it.each(["plain", "zstd clusters of 2 MiB", "clusters of 512 bytes"])("from cold storage (%s)", async (name) => {
    const made = corpus.find((one) => one.name === name) ?? corpus[0];
    if (made?.name !== name) throw new Error(`no image ${name}`);
    const path = makeImage(directory, made);
    const expected = convertToRaw(path);
    // Drops the file from the page cache, where the file system has one that can be dropped.
    execFileSync("dd", [
      `of=${path}`,
      "if=/dev/null",
      "oflag=nocache",
      "conv=notrunc,fdatasync",
      "count=0",
      "status=none",
    ]);
    const disk = openImage(path);
    const pieces = Array.from(
      { length: 64 },
      (_, i) => Math.floor(((i * 29) % 64) * (expected.length / 64 / SECTOR)) * SECTOR,
    );
    await Promise.all(
      pieces.map(async (at) =>
        expectSame(await readDisk(disk, at, 5120), expected.subarray(at, at + 5120), `at ${at}`),
      ),
    );
    await disk.close();
  });

  it("with far more tables than the cache holds, in any order", async () => {
    const path = join(directory, "many-tables.qcow2");
    const sizeBytes = 64 << 20;
    const content = new Uint8Array(sizeBytes);
    for (let at = 0; at < sizeBytes; at += 32 << 10) content.fill(((at >>> 15) % 255) + 1, at, at + SECTOR);
    writeFileSync(`${path}.raw`, content);
    convertFromRaw(`${path}.raw`, path, "cluster_size=512");
    const disk = openImage(path);
    const orders = [(i: number) => i, (i: number) => 2047 - i, (i: number) => (i * 769) % 2048];
    for (const order of orders)
      for (let i = 0; i < 2048; i += 32)
        await Promise.all(
          Array.from({ length: 32 }, async (_, k) => {
            const at = order(i + k) * (32 << 10);
            expectSame(await readDisk(disk, at, 1024), content.subarray(at, at + 1024), `at ${at}`);
          }),
        );
    await disk.close();
  });
});

describe("a qcow2 image under an overlay", () => {
  const sizeBytes = 1 << 20;
  let path: string;
  let content: Uint8Array;
  beforeAll(() => {
    const commands = ["write -P 7 100352 200704", "write -z 524288 65536"];
    path = makeImage(directory, { name: "base", sizeBytes, options: "compat=1.1", content: "compressed", commands });
    content = convertToRaw(path);
  });

  it("is a plain disk to whoever writes any part of it, and stays as it is", async () => {
    const before = readFileSync(path);
    const sectors = sizeBytes / SECTOR;
    const action = fc.record({
      kind: fc.constantFrom("write", "zero"),
      start: fc.nat(sectors - 1),
      length: fc.integer({ min: 1, max: 300 }),
      fill: fc.integer({ min: 1, max: 255 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 12 }), async (actions) => {
        const model = content.slice();
        const disk = openImage(path);
        for (const { kind, start, length, fill } of actions) {
          const [from, to] = [start * SECTOR, Math.min(sectors, start + length) * SECTOR];
          const byte = kind === "write" ? fill : 0;
          model.fill(byte, from, to);
          const errno =
            kind === "write"
              ? await writeDisk(disk, from, model.subarray(from, to))
              : await finish((done) => disk.writeZeroes(from, to - from, true, done));
          expect(errno).toBe(0);
        }
        await expectReadsAs(disk, model);
        await disk.close();
      }),
      { numRuns: 25 },
    );
    expect(Buffer.compare(readFileSync(path), before)).toBe(0);
  });

  it("finishes what is under way before it closes", async () => {
    const disk = openImage(path);
    const reads = Array.from({ length: 16 }, (_, i) => readDisk(disk, i * 65536, 65536));
    await disk.close();
    (await Promise.all(reads)).forEach((bytes, i) => {
      expectSame(bytes, content.subarray(i * 65536, (i + 1) * 65536), `cluster ${i}`);
    });
  });

  it("is found in /disk, whatever its name, and says what it is", async () => {
    const imageRoot = join(directory, "container-disk");
    mkdirSync(join(imageRoot, "disk"), { recursive: true });
    copyFileSync(path, join(imageRoot, "disk", "fedora.qcow2"));
    const overlayPath = join(directory, "overlay-container-disk");
    const disk = openImageDisk("root", { imageRoot, overlayPath }, new IoPool(), { readOnly: true });
    expect(disk.description).toMatch(
      /^image, qcow2 version 3, 1048576 bytes in a file of \d+, clusters of 65536, zlib$/,
    );
    await expectReadsAs(disk, content);
    await disk.close();
  });

  it("is told of where it is opened, and again where it is damaged", async () => {
    const imageRoot = join(directory, "damaged");
    mkdirSync(join(imageRoot, "disk"), { recursive: true });
    const image = readFileSync(path);
    const level2 = image.readUInt32BE(image.readUInt32BE(44) + 4);
    image.writeUInt32BE(0x80ffffff, level2);
    writeFileSync(join(imageRoot, "disk", "root.qcow2"), image);
    const told: string[] = [];
    const events = {
      opened: (disk: string, description: string) => told.push(`${disk} opened: ${description}`),
      damaged: (disk: string, problem: string) => told.push(`${disk} damaged: ${problem}`),
    };
    const source = { kind: "image" as const, imageRoot, overlayPath: join(directory, "overlay-damaged") };
    const config = { name: "root", readOnly: false, queues: 1, source };
    const [opened] = await openDisks([config], { pool: new IoPool(), diskEvents: events });
    const disk = opened?.storage;
    if (!disk) throw new Error("no disk");
    await expect(readDisk(disk, 65024, 1024)).rejects.toThrow("errno 5");
    expectSame(await readDisk(disk, 65536, 1024), content.subarray(65536, 66560), "the next cluster");
    await disk.close();
    expect(told).toEqual([
      expect.stringMatching(/^root opened: image, qcow2 version 3, 1048576 bytes/),
      expect.stringMatching(/^root damaged: the L2 entry for byte 65024 of the disk names a cluster at \d+/),
    ]);
  });

  it("is data where it is inside of a raw disk, whatever a guest writes there", async () => {
    const raw = join(directory, "raw.img");
    writeFileSync(raw, new Uint8Array(sizeBytes));
    const image = readFileSync(path).subarray(0, sizeBytes);
    const disk = openImage(raw);
    expect(await writeDisk(disk, 0, image)).toBe(0);
    expect(disk.sizeBytes).toBe(sizeBytes);
    expectSame(await readDisk(disk, 0, image.length), image, "what was written");
    await disk.close();
  });
});
