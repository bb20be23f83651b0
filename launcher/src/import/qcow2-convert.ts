import { DiskError } from "../storage/disk-error.ts";
import { ClusterEntryDecoder, Extent } from "../storage/qcow2/cluster-entry.ts";
import { decompressCluster } from "../storage/qcow2/decompress.ts";
import { HEADER_READ_BYTES, parseHeader, type Qcow2Header } from "../storage/qcow2/header.ts";
import { readLevel1 } from "../storage/qcow2/level1.ts";
import { ImportError } from "./import-error.ts";
import { BUFFER_BYTES, writeSparse } from "./sparse-writer.ts";
import { type RandomSource, readFully } from "./spool.ts";
import type { ImportTarget } from "./target.ts";

/** Reads and writes at a time, each with a buffer of its own: as many as libuv has threads. */
const TASKS = 4;
const ENTRY_BYTES = 8;

/** What is wrong with an image has the words of a disk of a machine; here it is the file. */
function asImportError(error: unknown): unknown {
  if (!(error instanceof DiskError)) return error;
  const message = error.message.replace(/^disk \S+: the image's qcow2 disk/, "the qcow2 file");
  const isDamage = /damaged|cut short|ends within/.test(message);
  return new ImportError(isDamage ? "SourceInvalid" : "FormatUnsupported", message, { cause: error });
}

/** Reads the header. Throws ImportError where the image is not read here, or its disk is larger than the volume. */
export async function readQcow2Header(source: RandomSource, target: { readonly sizeBytes: number }) {
  const start = new Uint8Array(Math.min(HEADER_READ_BYTES, source.sizeBytes));
  await readFully(source, start, 0);
  try {
    const header = parseHeader("import", start, source.sizeBytes);
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
  await source.available(header.l1OffsetBytes + header.l1Entries * ENTRY_BYTES);
  let level1: Float64Array;
  try {
    level1 = readLevel1("import", source.fd, header);
  } catch (error) {
    throw asImportError(error);
  }
  const conversion = new Conversion(source, header, target);
  await conversion.run(level1);
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
  readonly #spareBuffers: Buffer[] = [];
  readonly #tasks = new Set<Promise<void>>();
  #failure: { readonly reason: unknown } | undefined;
  #run: Run | undefined;

  constructor(source: RandomSource, header: Qcow2Header, target: ImportTarget) {
    this.#source = source;
    this.#header = header;
    this.#target = target;
    this.#decoder = new ClusterEntryDecoder(header);
  }

  async run(level1: Float64Array): Promise<void> {
    const { clusterBytes, l2Entries, l2EntryBytes, sizeBytes } = this.#header;
    const bytesPerTable = clusterBytes * l2Entries;
    const table = Buffer.allocUnsafeSlow(l2Entries * l2EntryBytes);
    try {
      for (let i = 0; i < level1.length; i++) {
        const start = i * bytesPerTable;
        const offset = level1[i] ?? 0;
        if (offset === 0) {
          await this.#add({ ...NOTHING, startBytes: start, endBytes: Math.min(start + bytesPerTable, sizeBytes) });
          continue;
        }
        await readFully(this.#source, table, offset);
        await this.#convertTable(new DataView(table.buffer, table.byteOffset, table.length), start);
      }
      await this.#flush();
    } finally {
      await Promise.allSettled(this.#tasks);
    }
    if (this.#failure !== undefined) throw this.#failure.reason;
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
    if (run === undefined) return;
    if (run.kind === "zero") await this.#target.zero(run.startBytes, run.endBytes - run.startBytes);
    else if (run.kind === "compressed") await this.#start((buffer) => this.#decompress(run, buffer));
    else await this.#copyAll(run);
  }

  async #copyAll(run: Run): Promise<void> {
    const lengthBytes = run.endBytes - run.startBytes;
    const { sizeBytes: fileBytes } = this.#source;
    if (run.hostOffsetBytes + lengthBytes > fileBytes)
      throw damaged(run.startBytes, `names data beyond the end of the file, which has ${fileBytes} bytes`);
    for (let done = 0; done < lengthBytes; done += BUFFER_BYTES) {
      const partBytes = Math.min(BUFFER_BYTES, lengthBytes - done);
      await this.#start(async (buffer) => {
        const part = buffer.subarray(0, partBytes);
        await readFully(this.#source, part, run.hostOffsetBytes + done);
        await writeSparse(this.#target, part, run.startBytes + done);
      });
    }
  }

  async #decompress(run: Run, buffer: Buffer): Promise<void> {
    const { compression, clusterBytes } = this.#header;
    const input = Buffer.allocUnsafe(run.compressedBytes);
    await readFully(this.#source, input, run.hostOffsetBytes);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    decompressCluster(compression, input, clusterBytes, (cluster) => {
      if (cluster !== null) buffer.set(cluster);
      resolve(cluster !== null);
    });
    if (!(await promise)) throw damaged(run.startBytes, `names a ${compression} cluster that cannot be decompressed`);
    await writeSparse(this.#target, buffer.subarray(0, run.endBytes - run.startBytes), run.startBytes);
  }

  /** Runs a task with a buffer beside others; waits while there are as many as there may be. */
  async #start(work: (buffer: Buffer) => Promise<void>): Promise<void> {
    while (this.#tasks.size >= TASKS) await Promise.race(this.#tasks);
    if (this.#failure !== undefined) throw this.#failure.reason;
    const size = Math.max(BUFFER_BYTES, this.#header.clusterBytes);
    const buffer = this.#spareBuffers.pop() ?? Buffer.allocUnsafeSlow(size);
    const task: Promise<void> = work(buffer)
      .catch((reason: unknown) => {
        this.#failure ??= { reason };
      })
      .finally(() => {
        this.#spareBuffers.push(buffer);
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
