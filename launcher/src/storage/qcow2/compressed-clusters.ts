import { read } from "node:fs";
import { EIO } from "../file-io.ts";
import type { IoLane } from "../io-pool.ts";
import type { IoCompletion } from "../storage.ts";
import type { DamageReport } from "./damage.ts";
import { decompressCluster } from "./decompress.ts";
import type { Qcow2Header } from "./header.ts";
import { SharedLoads } from "./shared-loads.ts";

const CACHE_BYTES = 2 * 1024 * 1024;
const CACHE_MIN_CLUSTERS = 2;
const CACHE_MAX_CLUSTERS = 512;
/** As many as a lane of the pool runs anyway; each takes up to three clusters of memory. */
const LOADS = 2;

/** The last few clusters that were decompressed. */
export class CompressedClusters {
  readonly #fd: number;
  readonly #lane: IoLane;
  readonly #header: Qcow2Header;
  readonly #report: DamageReport;
  readonly #limit: number;
  /** Room for `#limit` clusters; made when the first one comes. */
  #memory: Uint8Array | null = null;
  /** Slots by where the compressed bytes begin. The order is that of last use: the first is the oldest. */
  readonly #slots = new Map<number, number>();
  readonly #loads = new SharedLoads(LOADS, (offset, lengthBytes, done) => this.#read(offset, lengthBytes, done));
  /** For compressed bytes, with room for as many as an entry can name. */
  readonly #spareInputs: Uint8Array[] = [];

  constructor(fd: number, lane: IoLane, header: Qcow2Header, report: DamageReport) {
    this.#fd = fd;
    this.#lane = lane;
    this.#header = header;
    this.#report = report;
    const fitting = Math.floor(CACHE_BYTES / header.clusterBytes);
    this.#limit = Math.min(CACHE_MAX_CLUSTERS, Math.max(CACHE_MIN_CLUSTERS, fitting));
  }

  has(hostOffsetBytes: number): boolean {
    return this.#slots.has(hostOffsetBytes);
  }

  /**
   * The cluster whose compressed bytes begin at `hostOffsetBytes`, to be used at once; undefined when it has to be loaded
   * first.
   */
  find(hostOffsetBytes: number): Uint8Array | undefined {
    const slot = this.#slots.get(hostOffsetBytes);
    if (slot === undefined) return undefined;
    this.#slots.delete(hostOffsetBytes);
    this.#slots.set(hostOffsetBytes, slot);
    return this.#slotMemory(slot);
  }

  /** Loads what `find` did not find; a waiter that asks again at once finds it. EIO when it is damaged. */
  load(hostOffsetBytes: number, compressedBytes: number, completion: IoCompletion): void {
    this.#loads.load(hostOffsetBytes, compressedBytes, completion);
  }

  #read(hostOffsetBytes: number, lengthBytes: number, done: IoCompletion): void {
    const input = this.#spareInputs.pop() ?? new Uint8Array(2 * this.#header.clusterBytes);
    this.#lane.run({
      start: (ended) =>
        read(this.#fd, input, 0, lengthBytes, hostOffsetBytes, (error, count) =>
          ended(error ? (error.errno ?? -EIO) : count),
        ),
      ended: (result) => {
        if (result < 0) done.completed(-result);
        else this.#decompress(hostOffsetBytes, input, result, done);
      },
    });
  }

  #decompress(hostOffsetBytes: number, input: Uint8Array, lengthBytes: number, done: IoCompletion): void {
    const { compression, clusterBytes } = this.#header;
    this.#lane.run({
      start: (ended) =>
        decompressCluster(compression, input.subarray(0, lengthBytes), clusterBytes, (cluster) => {
          if (cluster) {
            this.#keep(hostOffsetBytes, cluster);
            this.#spareInputs.push(input);
          } else this.#report(`the ${compression} cluster at ${hostOffsetBytes} of the file cannot be decompressed`);
          ended(cluster ? 0 : -EIO);
        }),
      ended: (result) => done.completed(result < 0 ? EIO : 0),
    });
  }

  #keep(hostOffsetBytes: number, cluster: Uint8Array): void {
    const slot = this.#slots.size < this.#limit ? this.#slots.size : this.#evict();
    this.#slotMemory(slot).set(cluster);
    this.#slots.set(hostOffsetBytes, slot);
  }

  #evict(): number {
    for (const [oldest, slot] of this.#slots) {
      this.#slots.delete(oldest);
      return slot;
    }
    throw new RangeError("nothing to evict");
  }

  #slotMemory(slot: number): Uint8Array {
    const { clusterBytes } = this.#header;
    this.#memory ??= new Uint8Array(this.#limit * clusterBytes);
    return this.#memory.subarray(slot * clusterBytes, (slot + 1) * clusterBytes);
  }
}
