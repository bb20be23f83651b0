import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import fc from "fast-check";
import { CLUSTER_BYTES, ClusterMap } from "./cluster-map.ts";
import { DiskError } from "./disk-error.ts";
import { openImageDisk } from "./image-disk.ts";
import { IoPool } from "./io-pool.ts";
import { finish, readDisk, writeDisk } from "./testing/memory-buffer.ts";

// Many cases, or many operations: they take long where other work runs too.
jest.setTimeout(60_000);

const SECTOR = 512;
const ENOSPC = 28;

let directory: string;
let imageRoot: string;
let overlayPath: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "image-disk-"));
  imageRoot = join(directory, "image");
  overlayPath = join(directory, "overlay.img");
  mkdirSync(join(imageRoot, "disk"), { recursive: true });
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Sector n is full of n + 1. */
const pattern = (sizeBytes: number) =>
  Uint8Array.from({ length: sizeBytes }, (_, i) => (Math.floor(i / SECTOR) + 1) & 0xff);

function makeImage(sizeBytes = 16 * CLUSTER_BYTES) {
  const content = pattern(sizeBytes);
  writeFileSync(join(imageRoot, "disk", "root.img"), content);
  return content;
}

/** As toEqual, in a fraction of the time. */
function expectSame(actual: Uint8Array, expected: Uint8Array) {
  if (Buffer.compare(actual, expected) !== 0) expect(actual).toEqual(expected);
}

const open = (path?: string, overlayLimitBytes?: number) =>
  openImageDisk(
    "root",
    {
      imageRoot,
      overlayPath,
      ...(path === undefined ? {} : { path }),
      ...(overlayLimitBytes === undefined ? {} : { overlayLimitBytes }),
    },
    new IoPool(),
    { readOnly: false },
  );

describe("an image under an overlay", () => {
  it("reads the image, keeps writes in the overlay, and leaves the image alone", async () => {
    const content = makeImage();
    const disk = open();
    expectSame(await readDisk(disk, 0, content.length), content);
    expect(await writeDisk(disk, 2 * CLUSTER_BYTES, new Uint8Array(CLUSTER_BYTES).fill(0xee))).toBe(0);
    const expected = content.slice().fill(0xee, 2 * CLUSTER_BYTES, 3 * CLUSTER_BYTES);
    expectSame(await readDisk(disk, 0, content.length), expected);
    expect(await finish((completion) => disk.flush(completion))).toBe(0);
    await disk.close();
    expect(new Uint8Array(readFileSync(join(imageRoot, "disk", "root.img")))).toEqual(content);
    expect(statSync(overlayPath).blocks * 512).toBeLessThanOrEqual(2 * CLUSTER_BYTES);
  });

  it.each([
    ["inside one cluster", SECTOR, SECTOR],
    ["at the start of a cluster", CLUSTER_BYTES, SECTOR],
    ["at the end of a cluster", 2 * CLUSTER_BYTES - SECTOR, SECTOR],
    ["across two clusters", 2 * CLUSTER_BYTES - SECTOR, 2 * SECTOR],
    ["across many clusters", CLUSTER_BYTES + SECTOR, 5 * CLUSTER_BYTES],
    ["at the end of the disk", 16 * CLUSTER_BYTES - SECTOR, SECTOR],
  ])("completes clusters from the image for a write %s", async (_where, offset, length) => {
    const content = makeImage();
    const disk = open();
    expect(await writeDisk(disk, offset, new Uint8Array(length).fill(0xee))).toBe(0);
    expectSame(await readDisk(disk, 0, content.length), content.slice().fill(0xee, offset, offset + length));
    await disk.close();
  });

  it("lets writes to one cluster that come together each have their part", async () => {
    const content = makeImage();
    const disk = open();
    const writes = Array.from({ length: 8 }, (_, i) =>
      writeDisk(disk, i * SECTOR, new Uint8Array(SECTOR).fill(0xf0 + i)),
    );
    expect(await Promise.all(writes)).toEqual(new Array(8).fill(0));
    const expected = content.slice();
    for (let i = 0; i < 8; i++) expected.fill(0xf0 + i, i * SECTOR, (i + 1) * SECTOR);
    expectSame(await readDisk(disk, 0, content.length), expected);
    await disk.close();
  });

  it("hides the image where sectors were zeroed or whole clusters discarded", async () => {
    const content = makeImage();
    const disk = open();
    expect(await finish((done) => disk.writeZeroes(SECTOR, 3 * CLUSTER_BYTES, true, done))).toBe(0);
    expect(await finish((done) => disk.discard(5 * CLUSTER_BYTES - SECTOR, 2 * CLUSTER_BYTES, done))).toBe(0);
    const expected = content.slice().fill(0, SECTOR, SECTOR + 3 * CLUSTER_BYTES);
    expected.fill(0, 5 * CLUSTER_BYTES, 6 * CLUSTER_BYTES);
    expectSame(await readDisk(disk, 0, content.length), expected);
    expect(statSync(overlayPath).blocks * 512).toBeLessThanOrEqual(3 * CLUSTER_BYTES);
    await disk.close();
  });

  it("gives storage back for what is discarded", async () => {
    makeImage(1 << 20);
    const disk = open();
    await writeDisk(disk, 0, new Uint8Array(1 << 20).fill(1));
    const before = statSync(overlayPath).blocks;
    await finish((done) => disk.discard(0, 1 << 20, done));
    expect(statSync(overlayPath).blocks).toBeLessThan(before);
    expectSame(await readDisk(disk, 0, 1 << 20), new Uint8Array(1 << 20));
    await disk.close();
  });

  it.each([1, 511, 513, CLUSTER_BYTES + 1, 3 * CLUSTER_BYTES - 1])(
    "rounds an image of %d bytes up to whole sectors of zeroes",
    async (sizeBytes) => {
      const content = makeImage(sizeBytes);
      const disk = open();
      const padded = new Uint8Array(Math.ceil(sizeBytes / SECTOR) * SECTOR);
      padded.set(content);
      expect(disk.sizeBytes).toBe(padded.length);
      expectSame(await readDisk(disk, 0, padded.length), padded);
      expect(await writeDisk(disk, 0, new Uint8Array(SECTOR).fill(9))).toBe(0);
      padded.fill(9, 0, SECTOR);
      expectSame(await readDisk(disk, 0, padded.length), padded);
      await disk.close();
    },
  );

  it("starts from the image again each time", async () => {
    const content = makeImage();
    const first = open();
    await writeDisk(first, 0, new Uint8Array(SECTOR).fill(0xee));
    await first.close();
    const second = open();
    expectSame(await readDisk(second, 0, content.length), content);
    await second.close();
  });

  it("is a plain disk to whoever reads and writes any ranges at any time", async () => {
    const sizeBytes = 12 * CLUSTER_BYTES - SECTOR;
    const sectors = sizeBytes / SECTOR;
    const action = fc.record({
      kind: fc.constantFrom("write", "write", "zero", "discard", "read"),
      start: fc.nat(sectors - 1),
      length: fc.integer({ min: 1, max: 40 }),
      fill: fc.integer({ min: 1, max: 255 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(action, { maxLength: 6 }), { maxLength: 5 }), async (batches) => {
        const model = makeImage(sizeBytes);
        const unknown = new Set<number>();
        const disk = open();
        for (const batch of batches) {
          // What runs at the same time must not overlap, as with a file system: cut the disk into a part each.
          const share = Math.floor(sectors / Math.max(1, batch.length));
          const running = batch.map(({ kind, start, length, fill }, i) => {
            const first = i * share + (start % share);
            const count = Math.min(length, (i + 1) * share - first);
            const [offset, bytes] = [first * SECTOR, count * SECTOR];
            if (kind === "read") return readDisk(disk, offset, bytes).then(() => 0);
            for (let s = first; s < first + count; s++) unknown.delete(s);
            if (kind === "write") {
              model.fill(fill, offset, offset + bytes);
              return writeDisk(disk, offset, new Uint8Array(bytes).fill(fill));
            }
            if (kind === "zero") {
              model.fill(0, offset, offset + bytes);
              return finish((done) => disk.writeZeroes(offset, bytes, fill > 100, done));
            }
            for (let s = first; s < first + count; s++) unknown.add(s);
            return finish((done) => disk.discard(offset, bytes, done));
          });
          expect(await Promise.all(running)).toEqual(batch.map(() => 0));
          const now = await readDisk(disk, 0, sizeBytes);
          for (let sector = 0; sector < sectors; sector++)
            if (!unknown.has(sector)) {
              const [from, to] = [sector * SECTOR, (sector + 1) * SECTOR];
              if (Buffer.compare(now.subarray(from, to), model.subarray(from, to)) !== 0)
                throw new Error(`sector ${sector} is ${now[from]}, not ${model[from]}`);
            }
        }
        await disk.close();
      }),
      { numRuns: 60 },
    );
  });
});

describe("an overlay with a limit", () => {
  const LIMIT_CLUSTERS = 64;
  const clusters = (count: number, fill = 0xee) => new Uint8Array(count * CLUSTER_BYTES).fill(fill);
  /** A disk whose overlay is as large as it may be: its first half. */
  const openFull = async () => {
    makeImage(2 * LIMIT_CLUSTERS * CLUSTER_BYTES);
    const disk = open(undefined, LIMIT_CLUSTERS * CLUSTER_BYTES);
    expect(await writeDisk(disk, 0, clusters(LIMIT_CLUSTERS))).toBe(0);
    return disk;
  };
  const beyond = LIMIT_CLUSTERS * CLUSTER_BYTES;

  it("has no room for a cluster more, of which nothing is written", async () => {
    const disk = await openFull();
    expect(disk.overlay).toMatchObject({ limitBytes: beyond, usedBytes: beyond, isFull: false });
    expect(await writeDisk(disk, beyond, clusters(1))).toBe(ENOSPC);
    expect(await writeDisk(disk, beyond - SECTOR, clusters(1))).toBe(ENOSPC);
    expect(disk.overlay).toMatchObject({ usedBytes: beyond, isFull: true });
    expectSame(await readDisk(disk, beyond, SECTOR), pattern(beyond + SECTOR).subarray(beyond));
    expectSame(await readDisk(disk, beyond - SECTOR, SECTOR), new Uint8Array(SECTOR).fill(0xee));
    await disk.close();
  });

  it("takes what needs no room: what it has is written anew, read and zeroed", async () => {
    const disk = await openFull();
    expect(await writeDisk(disk, SECTOR, clusters(LIMIT_CLUSTERS - 1, 0xdd))).toBe(0);
    expect(await finish((done) => disk.writeZeroes(beyond + CLUSTER_BYTES, CLUSTER_BYTES, true, done))).toBe(0);
    expectSame(await readDisk(disk, beyond + CLUSTER_BYTES, SECTOR), new Uint8Array(SECTOR));
    expect(disk.overlay?.usedBytes).toBe(beyond);
    await disk.close();
  });

  it("has the room again that was given back, and not twice what is written there anew", async () => {
    const disk = await openFull();
    expect(await finish((done) => disk.discard(0, 2 * CLUSTER_BYTES, done))).toBe(0);
    expect(await writeDisk(disk, beyond, clusters(2))).toBe(0);
    expect(disk.overlay?.isFull).toBe(false);
    // Once discarded they are holes: to write there takes room, though they were the overlay's before.
    expect(await writeDisk(disk, 0, clusters(1))).toBe(ENOSPC);
    expect(disk.overlay?.usedBytes).toBe(beyond);
    await disk.close();
  });

  it("has more room once the limit is raised, and keeps all that it has when it is lowered", async () => {
    const disk = await openFull();
    expect(await writeDisk(disk, beyond, clusters(1))).toBe(ENOSPC);
    disk.overlay.limitBytes = beyond + CLUSTER_BYTES;
    expect(disk.overlay.isFull).toBe(false);
    expect(await writeDisk(disk, beyond, clusters(1))).toBe(0);
    disk.overlay.limitBytes = CLUSTER_BYTES;
    expect(await writeDisk(disk, 0, clusters(2, 0xdd))).toBe(0);
    expect(await writeDisk(disk, beyond + CLUSTER_BYTES, clusters(1))).toBe(ENOSPC);
    expectSame(await readDisk(disk, beyond, SECTOR), new Uint8Array(SECTOR).fill(0xee));
    await disk.close();
  });

  it("is told of after the disk is closed, as it was", async () => {
    const disk = await openFull();
    await disk.close();
    rmSync(overlayPath);
    expect(disk.overlay).toMatchObject({ limitBytes: beyond, usedBytes: beyond });
  });

  it("is kept by whoever writes, zeroes and discards at the same time", async () => {
    const total = 2 * LIMIT_CLUSTERS;
    const action = fc.record({
      kind: fc.constantFrom("write", "write", "write", "zero", "discard"),
      first: fc.nat(total * 8 - 1),
      sectors: fc.integer({ min: 1, max: 20 * 8 }),
    });
    makeImage(total * CLUSTER_BYTES);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(action, { maxLength: 8 }), { maxLength: 8 }), async (batches) => {
        const disk = open(undefined, beyond);
        for (const batch of batches) {
          const running = batch.map(({ kind, first, sectors }) => {
            const bytes = Math.min(sectors, total * 8 - first) * SECTOR;
            if (kind === "write") return writeDisk(disk, first * SECTOR, new Uint8Array(bytes).fill(1));
            return finish((done) =>
              kind === "zero"
                ? disk.writeZeroes(first * SECTOR, bytes, true, done)
                : disk.discard(first * SECTOR, bytes, done),
            );
          });
          for (const errno of await Promise.all(running)) expect([0, ENOSPC]).toContain(errno);
          expect(disk.overlay.usedBytes).toBeLessThanOrEqual(beyond);
        }
        await disk.close();
      }),
      { numRuns: 60 },
    );
  });
});

describe("finding the disk of an image", () => {
  const refused = (message: RegExp, path?: string) => {
    expect(() => open(path)).toThrow(DiskError);
    expect(() => open(path)).toThrow(message);
  };

  it("takes the one file in /disk, whatever its name", async () => {
    writeFileSync(join(imageRoot, "disk", ".odd name"), pattern(512));
    const disk = open();
    expect(disk.sizeBytes).toBe(512);
    await disk.close();
  });

  it("takes a path, and follows links inside the image", async () => {
    makeImage(1024);
    symlinkSync("/disk/root.img", join(imageRoot, "link"));
    const disk = open("/link");
    expect(disk.sizeBytes).toBe(1024);
    await disk.close();
  });

  it("refuses an image without, with an empty, or with an ambiguous /disk", () => {
    refused(/^disk root: \/disk of the image is empty; put the disk there, raw or qcow2/);
    makeImage(512);
    writeFileSync(join(imageRoot, "disk", "other.img"), "x");
    refused(/more than one file; leave one, or say which/);
    rmSync(join(imageRoot, "disk"), { recursive: true });
    refused(/\/disk of the image at .* cannot be opened .*ENOENT/);
    writeFileSync(join(imageRoot, "disk"), "x");
    refused(/not a directory/);
  });

  it("does not leave the image by links or dots (hostile case 60)", () => {
    const secret = join(directory, "secret.img");
    writeFileSync(secret, pattern(512));
    symlinkSync(secret, join(imageRoot, "disk", "root.img"));
    refused(/cannot be opened .*ENOENT/);
    refused(/cannot be opened .*ENOENT/, "../secret.img");
    symlinkSync("/proc/self/root", join(imageRoot, "up"));
    refused(/cannot be opened/, `up${secret}`);
  });

  it("refuses what is no regular file, without waiting for it", () => {
    execFileSync("mkfifo", [join(imageRoot, "disk", "root.img")]);
    refused(/\/disk\/root\.img of the image is not a regular file/);
  });

  it("refuses an empty file", () => {
    writeFileSync(join(imageRoot, "disk", "root.img"), "");
    refused(/has 0 bytes/);
  });

  it.each([
    ["VMDK", [...Buffer.from("KDMV\0\0\0\0")], /disk root: .*VMDK format; .*qemu-img convert -O qcow2/],
    ["VHDX", [...Buffer.from("vhdxfile")], /VHDX/],
    ["gzip", [0x1f, 0x8b, 8, 0], /gzip format; decompress/],
    ["zstd", [0x28, 0xb5, 0x2f, 0xfd], /zstd/],
    ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], /xz/],
  ])("refuses %s by its first bytes", (_format, magic, message) => {
    writeFileSync(join(imageRoot, "disk", "root.img"), Uint8Array.from([...magic, ...new Array(2048).fill(0)]));
    refused(message);
  });

  it("reads a disk raw into which the guest wrote another format's header (hostile case 44)", async () => {
    makeImage(8192);
    const disk = open();
    const header = new Uint8Array(512);
    header.set([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]);
    await writeDisk(disk, 0, header);
    expectSame(await readDisk(disk, 0, 512), header);
    await disk.close();
    await open().close();
  });

  it("says so when the overlay cannot be made or is in use", async () => {
    makeImage();
    const first = open();
    refused(/the overlay .*overlay\.img is in use already/);
    await first.close();
    overlayPath = join(directory, "missing", "overlay.img");
    refused(/the overlay .* cannot be made .*ENOENT.*; check that its volume is writable/);
    overlayPath = join(directory, "link.img");
    symlinkSync(join(imageRoot, "disk", "root.img"), overlayPath);
    refused(/cannot be made .*ELOOP/);
  });
});

describe("the map of clusters", () => {
  it("agrees with a set, across words and chunks", () => {
    const range = fc.tuple(fc.nat(70_000), fc.oneof(fc.nat(70), fc.nat(40_000)));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 4 }), (ranges) => {
        const map = new ClusterMap();
        const held = new Set<number>();
        for (const [first, more] of ranges) {
          map.add(first, first + more);
          for (let cluster = first; cluster <= first + more; cluster++) held.add(cluster);
        }
        const [, , [from, more] = [0, -1]] = ranges;
        map.remove(from, from + more);
        for (let cluster = from; cluster <= from + more; cluster++) held.delete(cluster);
        for (let cluster = 0; cluster < 115_000; cluster++)
          if (map.has(cluster) !== held.has(cluster)) throw new Error(`cluster ${cluster}`);
      }),
      { numRuns: 10 },
    );
  });

  it("counts what is missing of a run", () => {
    const map = new ClusterMap();
    map.add(31, 33);
    map.add(35, 35);
    expect([map.countMissing(30, 36), map.countMissing(31, 33), map.countMissing(34, 34)]).toEqual([3, 0, 1]);
  });

  it("finds where a run of clusters ends", () => {
    const map = new ClusterMap();
    map.add(31, 33);
    map.add(32760, 32780);
    expect([map.hasAll(32760, 32780), map.hasAll(32759, 32780), map.hasAll(32760, 32781)]).toEqual([
      true,
      false,
      false,
    ]);
    expect([map.endOfRun(1, 100), map.endOfRun(31, 100), map.endOfRun(34, 40)]).toEqual([31, 34, 41]);
  });
});
