/**
 * What one 4 KiB request costs through virtio-blk, from the doorbell to the status byte: with a storage that does
 * nothing (the device alone), with a file in the page cache (RWF_NOWAIT), and with the same file on libuv's pool.
 *
 *   node --expose-gc hack/bench/virtio-block.ts [--requests N] [--depth N]
 *
 * Prints a table on stderr and JSON on stdout: medians of five runs.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { DirtyBitmap } from "../../launcher/src/memory/dirty-bitmap.ts";
import { type Gpa, gpa } from "../../launcher/src/memory/gpa.ts";
import { GuestMemory } from "../../launcher/src/memory/guest-memory.ts";
import { FileIo } from "../../launcher/src/storage/file-io.ts";
import { IoPool } from "../../launcher/src/storage/io-pool.ts";
import type { IoVector } from "../../launcher/src/storage/io-vector.ts";
import type { IoCompletion, Storage } from "../../launcher/src/storage/storage.ts";
import { openFile } from "../../launcher/src/sys/file-io.ts";
import { Mapping } from "../../launcher/src/sys/mapping.ts";
import { BlockDevice } from "../../launcher/src/virtio/block/device.ts";
import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "../../launcher/src/virtio/block/protocol.ts";
import { VirtioPciDriver } from "../../launcher/src/virtio/testing/virtio-pci-driver.ts";
import { median, round } from "./statistics.ts";

const RUNS = 5;
const DATA_BYTES = 4096;
const DISK_BYTES = 64 << 20;
const MEMORY_BYTES = 4 << 20;
const HEADERS = 0x20000;
const STATUSES = 0x24000;
const DATA = 0x100000;

const { values } = parseArgs({
  options: { requests: { type: "string", default: "100000" }, depth: { type: "string", default: "16" } },
});
const requests = Number(values.requests);
const depth = Number(values.depth);
if (!(requests > 0) || !(depth >= 1 && depth <= 32)) throw new RangeError("--requests above 0, --depth 1 to 32");

interface Result {
  readonly name: string;
  readonly microsecondsPerRequest: number;
  readonly heapBytesPerRequest: number;
  readonly requestsPerSecond: number;
}

/** Ends every operation at once, having done nothing. */
class NullStorage implements Storage {
  readonly sizeBytes = DISK_BYTES;
  readonly readOnly = false;
  readonly logicalBlockBytes = 512;
  readonly physicalBlockBytes = 4096;
  read(_offset: number, _vector: IoVector, completion: IoCompletion): void {
    completion.completed(0);
  }
  write(_offset: number, _vector: IoVector, completion: IoCompletion): void {
    completion.completed(0);
  }
  flush(completion: IoCompletion): void {
    completion.completed(0);
  }
  discard(_offset: number, _length: number, completion: IoCompletion): void {
    completion.completed(0);
  }
  writeZeroes(_offset: number, _length: number, _mayUnmap: boolean, completion: IoCompletion): void {
    completion.completed(0);
  }
  async close(): Promise<void> {}
}

/** A file, with the fast path or without. */
class FileStorage extends NullStorage {
  readonly #io: FileIo;
  constructor(fd: number, pool: IoPool, noWait: boolean) {
    super();
    this.#io = new FileIo(fd, pool.openLane(), noWait);
  }
  override read(offset: number, vector: IoVector, completion: IoCompletion): void {
    this.#io.read(offset, vector, completion);
  }
  override write(offset: number, vector: IoVector, completion: IoCompletion): void {
    this.#io.write(offset, vector, completion);
  }
}

async function measure(name: string, storage: Storage, type: number, count: number): Promise<Result> {
  using mapping = Mapping.anonymous(MEMORY_BYTES);
  const regions = [{ gpa: gpa(0), sizeBytes: MEMORY_BYTES, offsetBytes: 0 }];
  const memory = new GuestMemory(mapping, regions, new DirtyBitmap(MEMORY_BYTES));
  const driver = new VirtioPciDriver(new BlockDevice({ name: "bench", storage, queues: 1 }), memory);
  const [ring] = driver.start(undefined, 128);
  if (!ring) throw new Error("no queue");
  // `depth` chains that are made available again and again: the driver writes nothing but the ring.
  for (let i = 0; i < depth; i++) {
    const [header, status, data] = [HEADERS + 16 * i, STATUSES + i, DATA + DATA_BYTES * i];
    memory.writeU32(header as Gpa, type);
    memory.writeU32((header + 8) as Gpa, (i * 104729 * 8) % (DISK_BYTES / 512));
    ring.writeDescriptor(3 * i, header, 16, 1, 3 * i + 1);
    ring.writeDescriptor(3 * i + 1, data, DATA_BYTES, type === VIRTIO_BLK_T_IN ? 3 : 1, 3 * i + 2);
    ring.writeDescriptor(3 * i + 2, status, 1, 2);
  }
  const kick = driver.doorbells.assigned.get(driver.doorbellAddress(0));
  if (!kick) throw new Error("no doorbell");
  const used = (ring.layout.usedRing + 2) as Gpa;
  const available = (ring.layout.availableRing + 2) as Gpa;
  const slots = ring.layout.availableRing + 4;
  let index = 0;
  const batch = () => {
    for (let i = 0; i < depth; i++) memory.writeU16((slots + 2 * ((index + i) & 127)) as Gpa, 3 * i);
    index = (index + depth) & 0xffff;
    memory.storeReleaseU16(available, index);
    driver.interrupts.length = 0;
    kick();
  };
  const finished = () => memory.loadAcquireU16(used) === index;
  const run = async (batches: number) => {
    for (let i = 0; i < batches; i++) {
      batch();
      while (!finished()) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const batches = Math.ceil(count / depth);
  await run(Math.min(batches, 2000));
  const times: number[] = [];
  const heaps: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    globalThis.gc?.();
    const heap = process.memoryUsage().heapUsed;
    const start = process.hrtime.bigint();
    await run(batches);
    times.push(Number(process.hrtime.bigint() - start) / 1000 / (batches * depth));
    heaps.push(Math.max(0, process.memoryUsage().heapUsed - heap) / (batches * depth));
  }
  const microseconds = median(times);
  return {
    name,
    microsecondsPerRequest: round(microseconds, 2),
    heapBytesPerRequest: round(median(heaps), 2),
    requestsPerSecond: Math.round(1e6 / microseconds),
  };
}

const directory = mkdtempSync(join(tmpdir(), "bench-virtio-block-"));
try {
  const path = join(directory, "disk.img");
  writeFileSync(path, new Uint8Array(DISK_BYTES).fill(1));
  using file = openFile(path, { write: true });
  const pool = new IoPool();
  const slow = Math.ceil(requests / 10);
  const results = [
    await measure("read, no storage", new NullStorage(), VIRTIO_BLK_T_IN, requests),
    await measure("read, page cache, no wait", new FileStorage(file.fd, pool, true), VIRTIO_BLK_T_IN, requests),
    await measure("read, page cache, pool", new FileStorage(file.fd, pool, false), VIRTIO_BLK_T_IN, slow),
    await measure("write, page cache, no wait first", new FileStorage(file.fd, pool, true), VIRTIO_BLK_T_OUT, slow),
    await measure("write, page cache, pool", new FileStorage(file.fd, pool, false), VIRTIO_BLK_T_OUT, slow),
  ];
  console.error(`4 KiB requests, ${depth} at a time`);
  for (const { name, microsecondsPerRequest, heapBytesPerRequest, requestsPerSecond } of results)
    console.error(
      `${name.padEnd(34)}${String(microsecondsPerRequest).padStart(8)} us${String(heapBytesPerRequest).padStart(10)} B heap${String(requestsPerSecond).padStart(10)}/s`,
    );
  const [, noWait, onPool] = results;
  const poolToNoWaitRatio = round((onPool?.microsecondsPerRequest ?? 0) / (noWait?.microsecondsPerRequest ?? 1), 2);
  console.log(JSON.stringify({ depth, results, poolToNoWaitRatio }, null, 2));
} finally {
  rmSync(directory, { recursive: true });
}
