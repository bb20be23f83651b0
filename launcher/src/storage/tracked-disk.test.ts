import { describe, expect, it } from "@jest/globals";
import { BLOCK_BYTES, BlockBitmap } from "./block-bitmap.ts";
import { CLUSTER_BYTES, ClusterMap } from "./cluster-map.ts";
import { IoVector } from "./io-vector.ts";
import type { IoCompletion, Storage } from "./storage.ts";
import { TrackedDisk } from "./tracked-disk.ts";

const BLOCKS = 100;

/** Operations end when the test says so. */
class WaitingStorage implements Storage {
  readonly sizeBytes = BLOCKS * BLOCK_BYTES - 512;
  readonly readOnly = false;
  readonly logicalBlockBytes = 512;
  readonly physicalBlockBytes = 512;
  readonly underWay: IoCompletion[] = [];

  read(_offset: number, vector: IoVector, completion: IoCompletion): void {
    this.#begin(vector, completion);
  }
  write(_offset: number, vector: IoVector, completion: IoCompletion): void {
    this.#begin(vector, completion);
  }
  flush(completion: IoCompletion): void {
    this.underWay.push(completion);
  }
  discard(_offset: number, _length: number, completion: IoCompletion): void {
    this.underWay.push(completion);
  }
  writeZeroes(_offset: number, _length: number, _mayUnmap: boolean, completion: IoCompletion): void {
    this.underWay.push(completion);
  }
  async close(): Promise<void> {}

  /** A storage uses up the vector that it is given. */
  #begin(vector: IoVector, completion: IoCompletion): void {
    vector.clear();
    this.underWay.push(completion);
  }

  end(errno = 0): void {
    this.underWay.shift()?.completed(errno);
  }
}

function setUp() {
  const storage = new WaitingStorage();
  const disk = new TrackedDisk(storage);
  const ended: number[] = [];
  const completion = { completed: (errno: number) => void ended.push(errno) };
  const vector = (lengthBytes: number) => {
    const made = new IoVector(1);
    made.append(4096, lengthBytes);
    return made;
  };
  const changed = () => {
    const bitmap = new BlockBitmap(disk.sizeBytes);
    disk.collectChanges(bitmap);
    return marked(bitmap);
  };
  return { storage, disk, ended, completion, vector, changed };
}

function marked({ words }: BlockBitmap): number[] {
  return Array.from({ length: words.length * 32 }, (_, block) => block).filter(
    (block) => (((words[block >>> 5] ?? 0) >>> (block & 31)) & 1) === 1,
  );
}

describe("a disk that is copied", () => {
  it("notes each write, discard and range of zeroes when it has ended, by the blocks that it touches", () => {
    const { storage, disk, ended, completion, vector, changed } = setUp();
    disk.startTracking();
    disk.write(BLOCK_BYTES - 512, vector(1024), completion);
    disk.discard(10 * BLOCK_BYTES, 2 * BLOCK_BYTES, completion);
    disk.writeZeroes(50 * BLOCK_BYTES + 512, 512, true, completion);
    disk.read(70 * BLOCK_BYTES, vector(4096), completion);
    disk.flush(completion);
    expect(changed()).toEqual([]);
    storage.end();
    expect(changed()).toEqual([0, 1]);
    for (let i = 0; i < 4; i++) storage.end();
    expect(changed()).toEqual([10, 11, 50]);
    expect(changed()).toEqual([]);
    expect(ended).toEqual([0, 0, 0, 0, 0]);
  });

  it("notes what began before it was copied, and what failed: some of that may be written", () => {
    const { storage, disk, ended, completion, vector, changed } = setUp();
    disk.write(3 * BLOCK_BYTES, vector(4096), completion);
    disk.startTracking();
    disk.write(5 * BLOCK_BYTES, vector(4096), completion);
    storage.end();
    storage.end(5);
    expect(changed()).toEqual([3, 5]);
    expect(ended).toEqual([0, 5]);
  });

  it("notes nothing before and after", () => {
    const { storage, disk, completion, vector, changed } = setUp();
    disk.write(0, vector(4096), completion);
    storage.end();
    disk.startTracking();
    expect(changed()).toEqual([]);
    disk.stopTracking();
    disk.write(0, vector(4096), completion);
    storage.end();
    disk.startTracking();
    expect(changed()).toEqual([]);
  });
});

describe("a bitmap of blocks", () => {
  it("has a bit for each block that a range touches, the last one too, and none beyond", () => {
    const bitmap = new BlockBitmap(BLOCKS * BLOCK_BYTES - 512);
    bitmap.mark(BLOCKS * BLOCK_BYTES - 1024, 4096);
    bitmap.mark(BLOCKS * BLOCK_BYTES, 4096);
    expect(marked(bitmap)).toEqual([BLOCKS - 1]);
    expect(bitmap.markedBytes).toBe(BLOCK_BYTES);
    expect(BlockBitmap.full(bitmap.sizeBytes).markedBytes).toBe(BLOCKS * BLOCK_BYTES);
  });

  it("covers every cluster that an overlay holds", () => {
    const map = new ClusterMap();
    const clusters = [0, 15, 16, 33, 40_000];
    for (const cluster of clusters) map.add(cluster, cluster);
    const found = new Set(marked(BlockBitmap.of(map, 40_001 * CLUSTER_BYTES)));
    for (const cluster of clusters) expect(found).toContain(Math.floor((cluster * CLUSTER_BYTES) / BLOCK_BYTES));
    expect(found.size).toBeLessThan(8);
  });
});
