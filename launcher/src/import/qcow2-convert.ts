import { DiskError } from "../storage/disk-error.ts";
import { ClusterEntryDecoder, Extent } from "../storage/qcow2/cluster-entry.ts";
import { decompressCluster } from "../storage/qcow2/decompress.ts";
import { HEADER_READ_BYTES, parseHeader, type Qcow2Header } from "../storage/qcow2/header.ts";
import { ENTRY_BYTES, level1Entry } from "../storage/qcow2/level1.ts";
import { ImportError } from "./import-error.ts";
import { BufferPool, type RandomSource } from "./random-source.ts";
import { BUFFER_BYTES, writeSparse } from "./sparse-writer.ts";
import type { ImportTarget } from "./target.ts";

/** Parts of the disk that are worked on at a time: as many as libuv has threads. */
const TASKS = 4;
const L1_CHUNK_BYTES = 64 * 1024;

/** What is wrong with an image has the words of a disk of a machine; here it is the file. */
function asImportError(error: unknown): unknown {
  if (!(error instanceof DiskError)) return error;
  const message = error.message.replace(/^disk \S+: the image's qcow2 disk/, "the qcow2 file");
  const isDamage = /damaged|cut short|ends within/.test(message);
  return new ImportError(isDamage ? "SourceInvalid" : "FormatUnsupported", message, { cause: error });
}

/** Reads the header. Throws ImportError where the image is not read here, or its disk is larger than the volume. */
export async function readQcow2Header(source: RandomSource, target: { readonly sizeBytes: number }) {
  using start = await source.view({ offsetBytes: 0, lengthBytes: Math.min(HEADER_READ_BYTES, source.sizeBytes) });
  try {
    const header = parseHeader("import", start.bytes, source.sizeBytes);
    checkSize(header.sizeBytes, target.sizeBytes);
    return header;
  } catch (error) {
    throw asImportError(error);
  }
}

/** Throws ImportError with both sizes. */
export function checkSize(diskBytes: number, targetBytes: number): void {
  if (diskBytes <= targetBytes) return;
  throw new ImportError(
    "TargetTooSmall",
    `the disk has ${diskBytes} bytes (${mebibytes(diskBytes)}), and the volume ${targetBytes} (${mebibytes(targetBytes)}); make the claim at least as large as the disk`,
  );
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)}Mi`;
}

/** Writes the disk of a qcow2 image into `target`, in the order of the disk, as the file comes in. Throws ImportError. */
export async function convertQcow2(source: RandomSource, header: Qcow2Header, target: ImportTarget): Promise<void> {
  const conversion = new Conversion(source, header, target);
  await conversion.run();
}

/** A part of the disk that comes from one place. */
interface Run {
  readonly kind: Extent["kind"];
  readonly startBytes: number;
  endBytes: number;
  readonly hostOffsetBytes: number;
  readonly compressedBytes: number;
}

class Conversion {
  readonly #source: RandomSource;
  readonly #header: Qcow2Header;
  readonly #target: ImportTarget;
  readonly #decoder: ClusterEntryDecoder;
  readonly #extent = new Extent();
  readonly #buffers = new BufferPool();
  readonly #tasks = new Set<Promise<void>>();
  #failure: { readonly reason: unknown } | undefined;
  #run: Run | undefined;
  /** Compressed clusters, each behind the other on the disk. */
  #clusters: Run[] = [];

  constructor(source: RandomSource, header: Qcow2Header, target: ImportTarget) {
    this.#source = source;
    this.#header = header;
    this.#target = target;
    this.#decoder = new ClusterEntryDecoder(header);
  }

  async run(): Promise<void> {
    const { clusterBytes, l2Entries, l2EntryBytes, sizeBytes } = this.#header;
    const bytesPerTable = clusterBytes * l2Entries;
    const table = Buffer.allocUnsafeSlow(l2Entries * l2EntryBytes);
    const fields = new DataView(table.buffer, table.byteOffset, table.length);
    let start = 0;
    try {
      for await (const offset of this.#tables()) {
        if (offset === 0)
          await this.#add({ ...NOTHING, startBytes: start, endBytes: Math.min(start + bytesPerTable, sizeBytes) });
        else {
          await this.#copyInto(table, offset);
          await this.#convertTable(fields, start);
        }
        start += bytesPerTable;
      }
      await this.#flush();
      await this.#flushClusters();
    } finally {
      await Promise.allSettled(this.#tasks);
    }
    if (this.#failure !== undefined) throw this.#failure.reason;
  }

  /** Where each L2 table begins in the file; 0 where there is none. */
  async *#tables(): AsyncGenerator<number> {
    const { l1Entries, l1OffsetBytes } = this.#header;
    const chunk = new Uint8Array(Math.min(L1_CHUNK_BYTES, l1Entries * ENTRY_BYTES));
    const fields = new DataView(chunk.buffer);
    for (let index = 0; index < l1Entries; index++) {
      const at = (index * ENTRY_BYTES) % L1_CHUNK_BYTES;
      if (at === 0) {
        const restBytes = (l1Entries - index) * ENTRY_BYTES;
        await this.#copyInto(chunk.subarray(0, restBytes), l1OffsetBytes + index * ENTRY_BYTES);
      }
      try {
        yield level1Entry("import", this.#header, { index, fields, at });
      } catch (error) {
        throw asImportError(error);
      }
    }
  }

  async #copyInto(target: Uint8Array, offsetBytes: number): Promise<void> {
    using view = await this.#source.view({ offsetBytes, lengthBytes: target.length });
    target.set(view.bytes);
  }

  async #convertTable(table: DataView, tableStart: number): Promise<void> {
    const { clusterBytes, subclusterBytes, l2Entries, l2EntryBytes, sizeBytes } = this.#header;
    const extent = this.#extent;
    for (let entry = 0; entry < l2Entries; entry++) {
      const clusterStart = tableStart + entry * clusterBytes;
      if (clusterStart >= sizeBytes) return;
      for (let start = 0, part = 0; start < clusterBytes; start += subclusterBytes, part++) {
        const startBytes = clusterStart + start;
        if (startBytes >= sizeBytes) return;
        this.#decoder.decode(table, entry * l2EntryBytes, part, extent);
        if (extent.kind === "damaged") throw damaged(startBytes, extent.problem);
        const isWhole = extent.kind === "compressed";
        const endBytes = Math.min(startBytes + (isWhole ? clusterBytes : subclusterBytes), sizeBytes);
        const { kind, hostOffsetBytes, compressedBytes } = extent;
        const pending = this.#add({ kind, startBytes, endBytes, hostOffsetBytes, compressedBytes });
        if (pending !== undefined) await pending;
        if (isWhole) break;
      }
    }
  }

  /** Joins the run to the one before where both lie together; else that one is done first. */
  #add(run: Run): Promise<void> | undefined {
    const last = this.#run;
    if (last !== undefined && last.kind === run.kind && continues(last, run)) {
      last.endBytes = run.endBytes;
      return undefined;
    }
    const flushed = this.#flush();
    this.#run = run;
    return flushed;
  }

  async #flush(): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    if (run?.kind === "compressed") {
      this.#clusters.push(run);
      if (this.#clusters.length * this.#header.clusterBytes < BUFFER_BYTES) return;
    }
    await this.#flushClusters();
    if (run?.kind === "zero") await this.#target.zero(run.startBytes, run.endBytes - run.startBytes);
    else if (run?.kind === "data") await this.#copyAll(run);
  }

  async #flushClusters(): Promise<void> {
    if (this.#clusters.length === 0) return;
    const clusters = this.#clusters;
    this.#clusters = [];
    await this.#start(() => this.#decompressAll(clusters));
  }

  async #copyAll(run: Run): Promise<void> {
    const lengthBytes = run.endBytes - run.startBytes;
    const { sizeBytes: fileBytes } = this.#source;
    if (run.hostOffsetBytes + lengthBytes > fileBytes)
      throw damaged(run.startBytes, `names data beyond the end of the file, which has ${fileBytes} bytes`);
    for (let done = 0, partBytes: number; done < lengthBytes; done += partBytes) {
      const [offsetBytes, startBytes] = [run.hostOffsetBytes + done, run.startBytes + done];
      // Never across what the source has in one piece.
      partBytes = Math.min(BUFFER_BYTES - (offsetBytes % BUFFER_BYTES), lengthBytes - done);
      const range = { offsetBytes, lengthBytes: partBytes };
      await this.#start(async () => {
        using view = await this.#source.view(range);
        await writeSparse(this.#target, view.bytes, startBytes);
      });
    }
  }

  async #decompressAll(clusters: readonly Run[]): Promise<void> {
    const [startBytes, endBytes] = [clusters[0]?.startBytes ?? 0, clusters.at(-1)?.endBytes ?? 0];
    using output = this.#buffers.take(clusters.length * this.#header.clusterBytes);
    for (const cluster of clusters)
      await this.#decompress(cluster, output.bytes.subarray(cluster.startBytes - startBytes));
    await writeSparse(this.#target, output.bytes.subarray(0, endBytes - startBytes), startBytes);
  }

  async #decompress(run: Run, into: Uint8Array): Promise<void> {
    const { compression, clusterBytes } = this.#header;
    const { hostOffsetBytes: offsetBytes, compressedBytes: lengthBytes } = run;
    using input = await this.#source.view({ offsetBytes, lengthBytes, isEndShared: true });
    const { promise, resolve } = Promise.withResolvers<boolean>();
    decompressCluster(compression, input.bytes, clusterBytes, (cluster) => {
      if (cluster !== null) into.set(cluster);
      resolve(cluster !== null);
    });
    if (!(await promise)) throw damaged(run.startBytes, `names a ${compression} cluster that cannot be decompressed`);
  }

  /** Runs a task beside others; waits while there are as many as there may be. */
  async #start(work: () => Promise<void>): Promise<void> {
    while (this.#tasks.size >= TASKS) await Promise.race(this.#tasks);
    if (this.#failure !== undefined) throw this.#failure.reason;
    const task: Promise<void> = work()
      .catch((reason: unknown) => {
        this.#failure ??= { reason };
      })
      .finally(() => {
        this.#tasks.delete(task);
      });
    this.#tasks.add(task);
  }
}

const NOTHING: Omit<Run, "startBytes" | "endBytes"> = { kind: "zero", hostOffsetBytes: 0, compressedBytes: 0 };

function continues(last: Run, next: Run): boolean {
  if (next.kind === "zero") return true;
  return next.kind === "data" && next.hostOffsetBytes === last.hostOffsetBytes + next.startBytes - last.startBytes;
}

function damaged(offsetBytes: number, problem: string): ImportError {
  return new ImportError(
    "SourceInvalid",
    `the qcow2 file is damaged: its L2 entry for byte ${offsetBytes} of the disk ${problem}; make the file anew`,
  );
}
