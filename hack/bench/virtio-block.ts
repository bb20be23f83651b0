/**
 * What a random 4 KiB request costs through virtio-blk, from the doorbell to the interrupt: with a storage that does
 * nothing (the device alone), and with a file, by each engine, through the page cache (with and without trying
 * RWF_NOWAIT first) and past it.
 *
 *   node --expose-gc hack/bench/virtio-block.ts [--depths 1,32] [--engines threads,io_uring] [--ms N] [--directory DIR]
 *
 * `depth` requests come with one doorbell, and the next ones when all have ended. Prints a table on stderr and JSON on
 * stdout: medians of five runs of N ms, in turn. CPU is that of the process, the kernel's work for it included.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { DirtyBitmap } from "../../launcher/src/memory/dirty-bitmap.ts";
import { type Gpa, gpa } from "../../launcher/src/memory/gpa.ts";
import { GuestMemory } from "../../launcher/src/memory/guest-memory.ts";
import { FileIo } from "../../launcher/src/storage/file-io.ts";
import { type IoEngine, openIoEngine } from "../../launcher/src/storage/io-engine.ts";
import { type IoLane, IoPool } from "../../launcher/src/storage/io-pool.ts";
import type { IoVector } from "../../launcher/src/storage/io-vector.ts";
import type { IoCompletion, Storage } from "../../launcher/src/storage/storage.ts";
import { openFile } from "../../launcher/src/sys/file-io.ts";
import { Mapping } from "../../launcher/src/sys/mapping.ts";
import { BlockDevice } from "../../launcher/src/virtio/block/device.ts";
import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "../../launcher/src/virtio/block/protocol.ts";
import { VirtioPciDriver } from "../../launcher/src/virtio/testing/virtio-pci-driver.ts";
import { medians, table } from "./statistics.ts";

const RUNS = 5;
const QUEUE_SIZE = 128;
const DATA_BYTES = 4096;
const DISK_BYTES = 256 << 20;
const MEMORY_BYTES = 4 << 20;
const HEADERS = 0x20000;
const STATUSES = 0x24000;
const DATA = 0x100000;

const { values } = parseArgs({
  options: {
    depths: { type: "string", default: "1,32" },
    engines: { type: "string", default: "threads,io_uring" },
    ms: { type: "string", default: "300" },
    directory: { type: "string", default: tmpdir() },
  },
});
const runMs = Number(values.ms);
const depths = values.depths.split(",").map(Number);
if (!(runMs > 0) || !depths.every((depth) => depth >= 1 && depth <= 32))
  throw new RangeError("--ms above 0, --depths 1 to 32");

/** Figures of one run; times in microseconds. */
interface Figures extends Record<string, number> {
  readonly us: number;
  readonly cpuUs: number;
  readonly heapBytes: number;
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
  readonly #lane: IoLane;
  readonly #io: FileIo;
  constructor(fd: number, pool: IoPool, noWait: boolean) {
    super();
    this.#lane = pool.openLane();
    this.#io = new FileIo(fd, this.#lane, noWait);
  }
  override read(offset: number, vector: IoVector, completion: IoCompletion): void {
    this.#io.read(offset, vector, completion);
  }
  override write(offset: number, vector: IoVector, completion: IoCompletion): void {
    this.#io.write(offset, vector, completion);
  }
  override async close(): Promise<void> {
    await this.#lane.close();
  }
}

/** One storage, one kind of request, one depth. */
class Case {
  readonly name: string;
  readonly depth: number;
  readonly runs: Figures[] = [];
  readonly #storage: Storage;
  readonly #memory: GuestMemory;
  readonly #driver: VirtioPciDriver;
  readonly #kick: () => void;
  readonly #ring: { available: Gpa; used: Gpa; slots: number };
  #index = 0;
  #sector = 1;

  constructor(name: string, storage: Storage, type: number, depth: number) {
    this.name = name;
    this.depth = depth;
    this.#storage = storage;
    const regions = [{ gpa: gpa(0), sizeBytes: MEMORY_BYTES, offsetBytes: 0 }];
    this.#memory = new GuestMemory(Mapping.anonymous(MEMORY_BYTES), regions, new DirtyBitmap(MEMORY_BYTES));
    this.#driver = new VirtioPciDriver(new BlockDevice({ name: "bench", storage, queues: 1 }), this.#memory);
    const [ring] = this.#driver.start(undefined, QUEUE_SIZE);
    const kick = this.#driver.doorbells.assigned.get(this.#driver.doorbellAddress(0));
    if (!ring || !kick) throw new Error("no queue");
    this.#kick = kick;
    const { usedRing, availableRing } = ring.layout;
    this.#ring = { used: (usedRing + 2) as Gpa, available: (availableRing + 2) as Gpa, slots: availableRing + 4 };
    // `depth` chains that are made available again and again: the driver writes nothing but the ring and the sector.
    for (let i = 0; i < depth; i++) {
      const [header, status, data] = [HEADERS + 16 * i, STATUSES + i, DATA + DATA_BYTES * i];
      this.#memory.writeU32(header as Gpa, type);
      ring.writeDescriptor(3 * i, header, 16, 1, 3 * i + 1);
      ring.writeDescriptor(3 * i + 1, data, DATA_BYTES, type === VIRTIO_BLK_T_IN ? 3 : 1, 3 * i + 2);
      ring.writeDescriptor(3 * i + 2, status, 1, 2);
    }
  }

  async run(durationMs: number): Promise<Figures> {
    globalThis.gc?.();
    const heap = process.memoryUsage().heapUsed;
    const cpu = process.cpuUsage();
    const start = performance.now();
    let requests = 0;
    for (; performance.now() - start < durationMs; requests += this.depth) await this.#batch();
    const elapsedMs = performance.now() - start;
    const { user, system } = process.cpuUsage(cpu);
    const heapBytes = Math.max(0, process.memoryUsage().heapUsed - heap);
    for (let i = 0; i < this.depth; i++)
      if (this.#memory.readU8((STATUSES + i) as Gpa) !== 0) throw new Error(`${this.name}: a request failed`);
    return {
      us: (elapsedMs * 1000) / requests,
      cpuUs: (user + system) / requests,
      heapBytes: heapBytes / requests,
    };
  }

  async close(): Promise<void> {
    await this.#driver.transport.reset();
    await this.#storage.close();
  }

  async #batch(): Promise<void> {
    const { available, used, slots } = this.#ring;
    for (let i = 0; i < this.depth; i++) {
      // A linear congruential generator: random enough for a disk.
      this.#sector = (Math.imul(this.#sector, 1664525) + 1013904223) >>> 0;
      const block = Math.floor((this.#sector / 2 ** 32) * (DISK_BYTES / DATA_BYTES));
      this.#memory.writeU32((HEADERS + 16 * i + 8) as Gpa, block * (DATA_BYTES / 512));
      this.#memory.writeU16((slots + 2 * ((this.#index + i) % QUEUE_SIZE)) as Gpa, 3 * i);
    }
    // The used event: an interrupt when the last one has ended.
    this.#memory.writeU16((slots + 2 * QUEUE_SIZE) as Gpa, (this.#index + this.depth - 1) & 0xffff);
    this.#index = (this.#index + this.depth) & 0xffff;
    this.#memory.storeReleaseU16(available, this.#index);
    this.#driver.interrupts.length = 0;
    const ended = new Promise<void>((resolve) => {
      this.#driver.onInterrupt = () => {
        if (this.#memory.loadAcquireU16(used) === this.#index) resolve();
      };
    });
    this.#kick();
    await ended;
  }
}

function engineOf(name: string): IoEngine {
  if (name === "threads") return { name, reason: null, pool: new IoPool() };
  const engine = openIoEngine();
  if (engine.name !== name) throw new Error(`no engine ${name}: ${engine.reason}`);
  return engine;
}

/** How a file is used. */
const ways = [
  { way: "cached, no wait first", direct: false, noWait: true },
  { way: "cached", direct: false, noWait: false },
  { way: "direct", direct: true, noWait: false },
];

const directory = mkdtempSync(join(values.directory, "bench-virtio-block-"));
try {
  const path = join(directory, "disk.img");
  writeFileSync(path, new Uint8Array(DISK_BYTES).fill(1), { flush: true });
  using buffered = openFile(path, { write: true });
  using direct = openFile(path, { write: true, direct: true });
  const cases: Case[] = [];
  for (const depth of depths) {
    cases.push(new Case("no storage: read", new NullStorage(), VIRTIO_BLK_T_IN, depth));
    for (const way of ways)
      for (const [request, type] of [["read", VIRTIO_BLK_T_IN] as const, ["write", VIRTIO_BLK_T_OUT] as const])
        for (const name of values.engines.split(",")) {
          const file = way.direct ? direct : buffered;
          const storage = new FileStorage(file.fd, engineOf(name).pool, way.noWait);
          cases.push(new Case(`${way.way}: ${request}, ${name}`, storage, type, depth));
        }
  }
  // Direct I/O drops pages from the cache: it is done last in each round, and the cache filled again.
  cases.sort((a, b) => Number(a.name.startsWith("direct")) - Number(b.name.startsWith("direct")));
  for (let run = 0; run <= RUNS; run++) {
    readFileSync(path);
    for (const one of cases) {
      const figures = await one.run(run === 0 ? runMs / 3 : runMs);
      if (run > 0) one.runs.push(figures);
    }
  }
  for (const one of cases) await one.close();
  const results = cases.map((one) => ({ name: one.name, depth: one.depth, ...medians(one.runs, 2) }));
  console.error(table(results));
  console.log(JSON.stringify({ results }, null, 2));
} finally {
  rmSync(directory, { recursive: true });
}
