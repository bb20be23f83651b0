import { preadFully } from "../../sys/file-io.ts";
import { EIO, FileIo } from "../file-io.ts";
import type { IoLane } from "../io-pool.ts";
import type { IoVector } from "../io-vector.ts";
import { PartedRead, type PartReader } from "../parted-read.ts";
import type { IoCompletion, ReadSource } from "../storage.ts";
import { ClusterEntryDecoder, Extent } from "./cluster-entry.ts";
import { CompressedClusters } from "./compressed-clusters.ts";
import type { DamageReport } from "./damage.ts";
import { HEADER_READ_BYTES, parseHeader, type Qcow2Header } from "./header.ts";
import { readLevel1 } from "./level1.ts";
import { TableCache } from "./table-cache.ts";

/** What is read of an image before it is used. */
export interface Qcow2Metadata {
  readonly header: Qcow2Header;
  /** Where each L2 table begins in the file, 0 where there is none. */
  readonly level1: Float64Array;
}

/** Reads header and L1 table of a file of `fileBytes`, which nobody changes from now on. Throws DiskError. */
export function readMetadata(disk: string, fd: number, fileBytes: number): Qcow2Metadata {
  const start = new Uint8Array(Math.min(HEADER_READ_BYTES, fileBytes));
  const header = parseHeader(disk, start.subarray(0, preadFully(fd, start, 0)), fileBytes);
  return { header, level1: readLevel1(disk, fd, header) };
}

const FOUND = -1;
const NOBODY: IoCompletion = { completed: () => {} };

/**
 * Reads a qcow2 image (QEMU docs/interop/qcow2), version 2 or 3. The tables are read as they are needed, and are checked
 * then: a damaged part of an image fails the reads of that part, with EIO.
 */
export class Qcow2Image implements ReadSource, PartReader, Disposable {
  readonly #header: Qcow2Header;
  readonly #level1: Float64Array;
  readonly #file: FileIo;
  readonly #tables: TableCache;
  readonly #clusters: CompressedClusters;
  readonly #decoder: ClusterEntryDecoder;
  readonly #report: DamageReport;
  readonly #spareReads: PartedRead[] = [];
  readonly #extent = new Extent();
  readonly #next = new Extent();

  /** `fd` stays open as long as `lane`. */
  constructor(fd: number, lane: IoLane, { header, level1 }: Qcow2Metadata, report: DamageReport) {
    this.#header = header;
    this.#level1 = level1;
    this.#file = new FileIo(fd, lane, true);
    this.#tables = new TableCache(this.#file, header.fileBytes);
    this.#clusters = new CompressedClusters(fd, lane, header, report);
    this.#decoder = new ClusterEntryDecoder(header);
    this.#report = report;
  }

  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    const read = this.#spareReads.pop() ?? new PartedRead(this, (ended) => this.#spareReads.push(ended));
    read.start(offsetBytes, vector, completion);
  }

  /** For PartedRead. */
  readPart(read: PartedRead): void {
    const extent = this.#extent;
    const missing = this.#locate(read.offsetBytes, extent);
    if (missing !== FOUND) {
      this.#tables.load(missing, read);
      return;
    }
    switch (extent.kind) {
      case "zero":
        read.take(this.#runBytes(read, extent)).zero();
        read.completed(0);
        break;
      case "data":
        this.#readData(read, extent);
        break;
      case "compressed":
        this.#readCompressed(read, extent);
        break;
      case "damaged":
        this.#fail(read, extent.problem);
    }
  }

  /** Once nothing is under way. */
  [Symbol.dispose](): void {
    this.#tables[Symbol.dispose]();
  }

  /** Fills `extent` for the byte at `offsetBytes`; else answers where in the file the table is that has to be loaded. */
  #locate(offsetBytes: number, extent: Extent): number {
    const { clusterBytes, subclusterBytes, l2Entries, l2EntryBytes } = this.#header;
    const cluster = Math.floor(offsetBytes / clusterBytes);
    const table = this.#level1[Math.floor(cluster / l2Entries)] ?? 0;
    if (table === 0) {
      extent.kind = "zero";
      return FOUND;
    }
    const entry = table + (cluster % l2Entries) * l2EntryBytes;
    const at = this.#tables.find(entry);
    if (at < 0) return entry;
    const inCluster = offsetBytes - cluster * clusterBytes;
    const subcluster = Math.floor(inCluster / subclusterBytes);
    this.#decoder.decode(this.#tables.view, at, subcluster, extent);
    if (extent.kind === "data") extent.hostOffsetBytes += inCluster - subcluster * subclusterBytes;
    return FOUND;
  }

  /** How far `extent` goes in `read`: as long as what follows in the disk is zero too, or follows in the file too. */
  #runBytes(read: PartedRead, extent: Extent): number {
    const { subclusterBytes } = this.#header;
    const next = this.#next;
    const start = read.offsetBytes;
    let end = (Math.floor(start / subclusterBytes) + 1) * subclusterBytes;
    while (end < read.endBytes && this.#locate(end, next) === FOUND && next.kind === extent.kind) {
      if (next.kind === "data" && next.hostOffsetBytes !== extent.hostOffsetBytes + end - start) break;
      end += subclusterBytes;
    }
    return Math.min(end, read.endBytes) - start;
  }

  #readData(read: PartedRead, extent: Extent): void {
    const lengthBytes = this.#runBytes(read, extent);
    const { fileBytes } = this.#header;
    if (extent.hostOffsetBytes + lengthBytes <= fileBytes)
      this.#file.read(extent.hostOffsetBytes, read.take(lengthBytes), read);
    else this.#fail(read, `names data beyond the end of the file, which has ${fileBytes} bytes`);
  }

  #fail(read: PartedRead, problem: string): void {
    this.#report(`the L2 entry for byte ${read.offsetBytes} of the disk ${problem}`);
    read.completed(EIO);
  }

  #readCompressed(read: PartedRead, extent: Extent): void {
    const { clusterBytes } = this.#header;
    const start = read.offsetBytes % clusterBytes;
    const end = Math.min(clusterBytes, start + read.endBytes - read.offsetBytes);
    const cluster = this.#clusters.find(extent.hostOffsetBytes);
    if (cluster) {
      read.take(end - start).fill(cluster.subarray(start, end));
      read.completed(0);
      return;
    }
    this.#clusters.load(extent.hostOffsetBytes, extent.compressedBytes, read);
    this.#loadAhead(read.offsetBytes - start + clusterBytes, read.endBytes);
  }

  /** Decompresses the cluster after one that is being decompressed, on another thread, where the read goes on there. */
  #loadAhead(offsetBytes: number, endBytes: number): void {
    const next = this.#next;
    if (offsetBytes >= endBytes || this.#locate(offsetBytes, next) !== FOUND || next.kind !== "compressed") return;
    if (!this.#clusters.has(next.hostOffsetBytes))
      this.#clusters.load(next.hostOffsetBytes, next.compressedBytes, NOBODY);
  }
}
