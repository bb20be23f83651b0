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
/** As many as a lane of the pool runs anyway; each holds up to three clusters of memory. */
const LOADS = 2;

/** Decompressed clusters, the last few of them. */
export class CompressedClusters {
  readonly #fd: number;
  readonly #lane: IoLane;
  readonly #header: Qcow2Header;
  readonly #report: DamageReport;
  readonly #limit: number;
  /** By where the compressed bytes begin. The order is that of last use: the first is the oldest. */
  readonly #clusters = new Map<number, Uint8Array>();
  readonly #loads = new SharedLoads(LOADS, (offset, lengthBytes, done) => this.#read(offset, lengthBytes, done));

  constructor(fd: number, lane: IoLane, header: Qcow2Header, report: DamageReport) {
    this.#fd = fd;
    this.#lane = lane;
    this.#header = header;
    this.#report = report;
    const fitting = Math.floor(CACHE_BYTES / header.clusterBytes);
    this.#limit = Math.min(CACHE_MAX_CLUSTERS, Math.max(CACHE_MIN_CLUSTERS, fitting));
  }

  /** The cluster whose compressed bytes begin at `hostOffsetBytes`; undefined when it has to be loaded first. */
  find(hostOffsetBytes: number): Uint8Array | undefined {
    const cluster = this.#clusters.get(hostOffsetBytes);
    if (!cluster) return undefined;
    this.#clusters.delete(hostOffsetBytes);
    this.#clusters.set(hostOffsetBytes, cluster);
    return cluster;
  }

  /** Loads what `find` did not find; a waiter that asks again at once finds it. EIO when it is damaged. */
  load(hostOffsetBytes: number, compressedBytes: number, completion: IoCompletion): void {
    this.#loads.load(hostOffsetBytes, compressedBytes, completion);
  }

  #read(hostOffsetBytes: number, lengthBytes: number, done: IoCompletion): void {
    const compressed = new Uint8Array(lengthBytes);
    this.#lane.run({
      start: (ended) =>
        read(this.#fd, compressed, 0, lengthBytes, hostOffsetBytes, (error, count) =>
          ended(error ? (error.errno ?? -EIO) : count),
        ),
      ended: (result) => {
        if (result < 0) done.completed(-result);
        else this.#decompress(hostOffsetBytes, compressed.subarray(0, result), done);
      },
    });
  }

  #decompress(hostOffsetBytes: number, compressed: Uint8Array, done: IoCompletion): void {
    const { compression, clusterBytes } = this.#header;
    this.#lane.run({
      start: (ended) =>
        decompressCluster(compression, compressed, clusterBytes, (cluster) => {
          if (cluster) this.#keep(hostOffsetBytes, cluster);
          else this.#report(`the ${compression} cluster at ${hostOffsetBytes} of the file cannot be decompressed`);
          ended(cluster ? 0 : -EIO);
        }),
      ended: (result) => done.completed(result < 0 ? EIO : 0),
    });
  }

  #keep(hostOffsetBytes: number, cluster: Uint8Array): void {
    for (const [oldest] of this.#clusters) {
      if (this.#clusters.size < this.#limit) break;
      this.#clusters.delete(oldest);
    }
    this.#clusters.set(hostOffsetBytes, cluster);
  }
}
