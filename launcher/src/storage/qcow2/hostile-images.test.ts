import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, jest } from "@jest/globals";
import fc from "fast-check";
import { DiskError } from "../disk-error.ts";
import { openImageDisk } from "../image-disk.ts";
import { IoPool } from "../io-pool.ts";
import { finish, MemoryBuffer } from "../testing/memory-buffer.ts";
import { type CorpusCase, makeImage } from "./testing/corpus.ts";

// Thousands of images are opened and read.
jest.setTimeout(300_000);

const EIO = 5;
const KIB = 1024;
const READ_BYTES = 64 * KIB;
const WHOLE_DISK_BYTES = 1 << 20;
const commands = ["write -P 5 10240 20480", "write -z 65536 16384", "write -c -P 7 131072 16384"];
const images: readonly CorpusCase[] = [
  { name: "v2", sizeBytes: 200 * KIB, options: "compat=0.10,cluster_size=4k", content: "compressed" },
  { name: "v3", sizeBytes: 200 * KIB, options: "cluster_size=4k", content: "plain" },
  { name: "zstd", sizeBytes: 200 * KIB, options: "cluster_size=16k,compression_type=zstd", commands },
  { name: "extended", sizeBytes: 200 * KIB, options: "cluster_size=16k,extended_l2=on", commands },
  { name: "small", sizeBytes: 200 * KIB, options: "cluster_size=512", content: "compressed" },
];

let directory: string;
const bytesOf = new Map<string, Uint8Array>();
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "qcow2-hostile-"));
  for (const image of images) bytesOf.set(image.name, new Uint8Array(readFileSync(makeImage(directory, image))));
});
afterAll(() => rmSync(directory, { recursive: true }));

const original = (name: string) => bytesOf.get(name)?.slice() ?? new Uint8Array(0);
const openFiles = () => readdirSync("/proc/self/fd").length;
const pool = new IoPool();

interface Outcome {
  readonly refusal?: string;
  readonly failedReads: number;
  readonly damage: readonly string[];
}

/** Opens an image and reads it, all of it where it is small: what comes of it is data, EIO or a refusal. */
async function tryImage(image: Uint8Array): Promise<Outcome> {
  writeFileSync(join(directory, "hostile.qcow2"), image);
  const damage: string[] = [];
  let disk: ReturnType<typeof openImageDisk>;
  try {
    const source = { imageRoot: directory, path: "hostile.qcow2", overlayPath: join(directory, "overlay") };
    disk = openImageDisk("root", source, pool, { readOnly: false, onDamage: (problem) => damage.push(problem) });
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    expect(error.message).toMatch(/^disk root: [\x20-\x7e]+; [\x20-\x7e]+$/);
    return { refusal: error.message, failedReads: 0, damage };
  }
  const wholeBytes = Math.min(disk.sizeBytes, WHOLE_DISK_BYTES);
  const offsets = Array.from({ length: Math.ceil(wholeBytes / READ_BYTES) }, (_, i) => i * READ_BYTES);
  if (disk.sizeBytes > wholeBytes) offsets.push(Math.floor(disk.sizeBytes / 1024) * 512, disk.sizeBytes - 512);
  const errors = await Promise.all(
    offsets.map(async (offset) => {
      using buffer = new MemoryBuffer(READ_BYTES);
      using vector = buffer.vector(0, Math.min(READ_BYTES, disk.sizeBytes - offset));
      return await finish((completion) => disk.read(offset, vector, completion));
    }),
  );
  await disk.close();
  for (const errno of errors) expect([0, EIO]).toContain(errno);
  return { failedReads: errors.filter((errno) => errno !== 0).length, damage };
}

/** Sets a table entry (in bytes from the file's start) of an image of one L2 table. */
function withEntry(image: Uint8Array, cluster: number, high: number, low: number): Uint8Array {
  const view = new DataView(image.buffer);
  const level1 = view.getUint32(44);
  const level2 = view.getUint32(level1 + 4);
  view.setUint32(level2 + 8 * cluster, high);
  view.setUint32(level2 + 8 * cluster + 4, low);
  return image;
}

describe("a hostile or damaged qcow2 image", () => {
  it.each<[string, string, number, number, RegExp]>([
    [
      "a cluster beyond the file",
      "v3",
      0x80000000,
      0x7ffff000,
      /byte 4096 of the disk names a cluster at 2147479552 of/,
    ],
    ["a cluster at the end of all numbers", "v3", 0x80ffffff, 0xfffff000, /names a cluster at 72057594037923840 of/],
    ["a cluster that is not aligned", "v3", 0x80000000, 0x00002200, /names a cluster at 8704, which is not aligned/],
    ["compressed bytes in the header", "v3", 0x40000000, 0x00000070, /names compressed bytes at 112 of a file of/],
    ["compressed bytes beyond the file", "v3", 0x47ffffff, 0xffffffff, /names compressed bytes at/],
    [
      "compressed bytes that are tables",
      "v3",
      0x40000000,
      0x00001000,
      /zlib cluster at 4096 .* cannot be decompressed/,
    ],
    ["a zero flag in version 2", "v2", 0x80000000, 0x00000001, /has a zero flag, which version 2 does not know/],
  ])("names %s: reads of that part fail and say why, all others work", async (_what, name, high, low, problem) => {
    const outcome = await tryImage(withEntry(original(name), 1, high, low));
    expect(outcome.failedReads).toBe(1);
    expect(outcome.damage).toEqual([expect.stringMatching(problem)]);
  });

  it("names an L2 table outside of itself: refused, with the table and where", async () => {
    for (const [at, byte] of [
      [5, 0xff],
      [6, 0x02],
    ] as const) {
      const image = original("v3");
      image[new DataView(image.buffer).getUint32(44) + at] = byte;
      expect((await tryImage(image)).refusal).toMatch(/its L2 table 0 at \d+ is not inside its \d+ bytes; rebuild/);
    }
  });

  it("uses its own tables as data, or one cluster for all: read as it says", async () => {
    const image = original("v3");
    for (let cluster = 0; cluster < 50; cluster++) withEntry(image, cluster, 0x80000000, 0x1000);
    expect(await tryImage(image)).toEqual({ failedReads: 0, damage: [] });
  });

  it("is refused or read, with any byte of its header changed", async () => {
    await tryImage(original("zstd"));
    const before = openFiles();
    let refused = 0;
    for (let at = 4; at < 112; at++)
      for (const change of [0x01, 0x80, 0xff]) {
        const image = original("zstd");
        image[at] = (image[at] ?? 0) ^ change;
        if ((await tryImage(image)).refusal) refused++;
      }
    expect(refused).toBeGreaterThan(100);
    expect(openFiles()).toBe(before);
  });

  it.each(images.map(({ name }) => name))(
    "fails only requests, with any bytes changed or cut off (%s)",
    async (name) => {
      const { length } = original(name);
      const before = openFiles();
      // Tables are at the front of such small files.
      const position = fc.oneof(fc.nat(length - 1), fc.nat(Math.min(length - 1, 32 * KIB)));
      const change = fc.tuple(position, fc.integer({ min: 1, max: 255 }));
      const lengths = fc.option(fc.integer({ min: 8, max: length }), { nil: length });
      await fc.assert(
        fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 8 }), lengths, async (changes, keptBytes) => {
          const image = original(name);
          for (const [at, bits] of changes) if (at >= 4) image[at] = (image[at] ?? 0) ^ bits;
          await tryImage(image.subarray(0, keptBytes));
        }),
        { numRuns: 150 },
      );
      expect(openFiles()).toBe(before);
    },
  );
});
