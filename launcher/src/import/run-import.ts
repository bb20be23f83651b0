import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import type { ImportConfig, ImportSource } from "../../api/import.ts";
import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import { SECTOR_BYTES } from "../storage/storage.ts";
import { peek } from "./byte-stream.ts";
import { Checksum } from "./checksum.ts";
import { readCredentials } from "./credentials.ts";
import { decompress } from "./decompress.ts";
import { copyRaw, openDiskSource, openImageSource, sizeOf } from "./file-source.ts";
import { compressionOf, diskFormatOf, SNIFF_BYTES } from "./format.ts";
import { type DownloadLimits, defaultDownloadLimits, HttpDownload, WrongRange } from "./http-download.ts";
import { ImportError } from "./import-error.ts";
import { type OpenBlockDevice, openTarget } from "./open-target.ts";
import type { ProgressMeter } from "./progress.ts";
import { checkSize, convertQcow2, readQcow2Header } from "./qcow2-convert.ts";
import { WholeFile } from "./random-source.ts";
import { type Checkpoints, SequentialWriter } from "./sparse-writer.ts";
import { Spool, SpoolForgot } from "./spool.ts";
import type { ImportTarget } from "./target.ts";
import { sourceDigest, type TransferRecord } from "./transfer-record.ts";
import { checkWindow, DEFAULT_MEMORY_BYTES, windowLimitBytes } from "./window.ts";

export interface ImportParts {
  readonly progress: ProgressMeter;
  readonly log: Logger;
  readonly openDevice: OpenBlockDevice;
  readonly signal?: AbortSignal;
  readonly downloadLimits?: DownloadLimits;
  /** See CHECKPOINT_BYTES. */
  readonly checkpointBytes?: number;
}

/** What a raw file of a server is recorded after: so much is fetched again where the next pod goes on. */
const CHECKPOINT_BYTES = 64 * 2 ** 20;

/** A qcow2 file may have this much beside the bytes of its disk: tables, and what is left of older states. */
const QCOW2_SLACK_BYTES = 64 * 2 ** 20;

/** Fills the volume, and resolves once all is durable there. Throws ImportError, or the signal's reason. */
export async function runImport(config: ImportConfig, parts: ImportParts): Promise<void> {
  using target = await openTarget(config.target, parts.openDevice);
  const { progress } = parts;
  progress.stage = "Transferring";
  const diskBytes = await transfer(config, target, parts);
  progress.diskBytes = diskBytes;
  progress.stage = "Finishing";
  await target.finish(diskBytes);
}

/** Resolves to the size of the disk. */
async function transfer(config: ImportConfig, target: ImportTarget, parts: ImportParts): Promise<number> {
  const { source } = config;
  switch (source.kind) {
    case "http":
      return await fromServer(source, config, target, parts);
    case "image": {
      await target.restart();
      using file = openImageSource(source);
      return await fromFile(file.fd, target, parts);
    }
    case "disk": {
      await target.restart();
      using disk = await openDiskSource(source, parts.openDevice);
      parts.progress.format = "raw";
      return await fromRaw(disk.fd, target, parts);
    }
  }
}

/** A file that nobody changes: raw, or qcow2 by its first bytes. */
async function fromFile(fd: number, target: ImportTarget, parts: ImportParts): Promise<number> {
  const { progress } = parts;
  const file = new WholeFile(fd, sizeOf(fd));
  progress.format = await formatOf(file);
  if (progress.format === "raw") return await fromRaw(fd, target, parts);
  const header = await readQcow2Header(file, target);
  progress.diskBytes = header.sizeBytes;
  progress.totalBytes = header.sizeBytes;
  await convertQcow2(file, header, counted(target, parts));
  return header.sizeBytes;
}

async function formatOf(file: WholeFile): Promise<"raw" | "qcow2"> {
  using start = await file.view({ offsetBytes: 0, lengthBytes: Math.min(SNIFF_BYTES, file.sizeBytes) });
  if (compressionOf(start.bytes) !== undefined)
    throw new ImportError("FormatUnsupported", "the image's disk is compressed; decompress it when the image is built");
  return diskFormatOf(start.bytes);
}

async function fromRaw(fd: number, target: ImportTarget, parts: ImportParts): Promise<number> {
  const { progress } = parts;
  const sizeBytes = sizeOf(fd);
  const diskBytes = checkedDiskBytes(sizeBytes, target);
  progress.totalBytes = sizeBytes;
  progress.diskBytes = diskBytes;
  await copyRaw(fd, sizeBytes, { target, ...parts });
  return diskBytes;
}

function checkedDiskBytes(sizeBytes: number, target: ImportTarget): number {
  if (sizeBytes === 0) throw new ImportError("SourceInvalid", "the source is empty; give one with a disk");
  const diskBytes = Math.ceil(sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  checkSize(diskBytes, target.sizeBytes);
  return diskBytes;
}

/** Counts the bytes of the disk as they are written: of a file, there is nothing else that shows how far it is. */
function counted(target: ImportTarget, { progress, signal }: ImportParts): ImportTarget {
  const step = (lengthBytes: number) => {
    signal?.throwIfAborted();
    progress.add(lengthBytes);
  };
  return {
    sizeBytes: target.sizeBytes,
    grainBytes: target.grainBytes,
    write: async (data, offsetBytes) => {
      await target.write(data, offsetBytes);
      step(data.length);
    },
    zero: async (offsetBytes, lengthBytes) => {
      await target.zero(offsetBytes, lengthBytes);
      step(lengthBytes);
    },
    restart: (keptBytes) => target.restart(keptBytes),
    finish: (diskBytes) => target.finish(diskBytes),
    [Symbol.dispose]: () => target[Symbol.dispose](),
  };
}

type HttpSource = Extract<ImportSource, { kind: "http" }>;

async function fromServer(
  source: HttpSource,
  { scratchDirectory, memoryBytes = DEFAULT_MEMORY_BYTES }: ImportConfig,
  target: ImportTarget,
  parts: ImportParts,
): Promise<number> {
  const from = { source, scratchDirectory, memoryBytes, keepsAll: false };
  const left = leftOf(source, target);
  try {
    return await fetchOnce({ ...from, left }, target, parts);
  } catch (error) {
    const again = howAgain(error, left);
    if (again === undefined) throw error;
    parts.log.info(again.why, { error: errorText(error) });
    parts.progress.restart();
    return await fetchOnce({ ...from, keepsAll: again.keepsAll }, target, parts);
  }
}

/** What an importer before this one wrote of the same source. */
function leftOf(source: HttpSource, target: ImportTarget): TransferRecord | undefined {
  const record = target.resumption?.left();
  return record?.source === sourceDigest(source) ? record : undefined;
}

/** Where the file has to be fetched from its first byte once more. */
function howAgain(error: unknown, left: TransferRecord | undefined) {
  if (error instanceof SpoolForgot)
    return { why: "the file names a place twice: it is fetched again, and kept", keepsAll: true };
  const isAnother =
    error instanceof WrongRange ||
    (error instanceof ImportError && (error.reason === "SourceChanged" || error.reason === "ChecksumMismatch"));
  if (left === undefined || !isAnother) return undefined;
  return { why: "what an importer before wrote cannot be gone on with: it is fetched anew", keepsAll: false };
}

interface Fetch {
  readonly source: HttpSource;
  readonly scratchDirectory: string;
  readonly memoryBytes: number;
  /** See SpoolOptions. */
  readonly keepsAll: boolean;
  /** Where to go on: only of a raw file. */
  readonly left?: TransferRecord | undefined;
}

async function fetchOnce(from: Fetch, target: ImportTarget, parts: ImportParts): Promise<number> {
  // Whatever end it takes: no connection and no process outlives it.
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, ...(parts.signal === undefined ? [] : [parts.signal])]);
  try {
    await target.restart(from.left?.durableBytes);
    return await fetchAndWrite(from, target, { ...parts, signal });
  } finally {
    over.abort();
  }
}

type StoppableParts = ImportParts & { readonly signal: AbortSignal };

async function fetchAndWrite(from: Fetch, target: ImportTarget, parts: StoppableParts): Promise<number> {
  const { source, left } = from;
  const checksum = source.checksum === undefined ? undefined : new Checksum(source.checksum);
  const download = downloadOf(from, parts);
  const chunks = checksum === undefined ? download.chunks() : checksum.of(download.chunks());
  const served = { chunks, checkpoints: checkpointsOf(source, download, target, parts) };
  const diskBytes =
    left === undefined
      ? await writeAny(served, from, target, parts)
      : await goOn({ ...served, left, checksum }, target, parts);
  checksum?.verify();
  return diskBytes;
}

interface Served {
  readonly chunks: AsyncIterable<Uint8Array>;
  /** For a raw file. */
  readonly checkpoints: Checkpoints | undefined;
}

/** From the first byte, which tells the format. */
async function writeAny(
  { chunks, checkpoints }: Served,
  { scratchDirectory, memoryBytes, keepsAll }: Fetch,
  target: ImportTarget,
  { progress, signal }: StoppableParts,
): Promise<number> {
  const file = await peek(chunks, SNIFF_BYTES);
  const compression = compressionOf(file.start);
  const limitBytes = windowLimitBytes(memoryBytes);
  if (compression !== undefined) checkWindow(compression, file.start, limitBytes);
  const disk =
    compression === undefined
      ? file
      : await peek(decompress(file.all, { compression, windowLimitBytes: limitBytes, signal }), SNIFF_BYTES);
  const format = diskFormatOf(disk.start);
  progress.format = compression === undefined ? format : `${format} in ${compression}`;
  const totalBytes = compression === undefined ? progress.totalBytes : null;
  if (format === "qcow2")
    return await throughSpool({ chunks: disk.all, totalBytes, scratchDirectory, keepsAll }, target, progress);
  // Of a compressed file, a place in the disk is none in the file.
  const recorded = compression === undefined ? { checkpoints } : {};
  return await writeRaw({ chunks: disk.all, totalBytes, ...recorded }, target, progress);
}

/** A raw file from where the record ends. All bytes count for the checksum: those that are there are read. */
async function goOn(
  from: Served & { readonly left: TransferRecord; readonly checksum: Checksum | undefined },
  target: ImportTarget,
  { progress, signal, log }: StoppableParts,
): Promise<number> {
  const { durableBytes: startBytes, totalBytes } = from.left;
  log.info("an importer before this one wrote some of the file: it goes on there", { startBytes, totalBytes });
  progress.format = "raw";
  progress.totalBytes = totalBytes;
  progress.continueAt(startBytes);
  if (from.checksum !== undefined && target.resumption !== undefined)
    for await (const bytes of target.resumption.written(startBytes)) {
      signal.throwIfAborted();
      from.checksum.update(bytes);
    }
  // Nothing is asked for where nothing is missing: a range behind the end is an error.
  const chunks = startBytes === totalBytes ? nothing() : from.chunks;
  return await writeRaw({ ...from, chunks, startBytes, totalBytes }, target, progress);
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** Undefined where another importer could not tell whether the file is the same, or the volume has no place for a record. */
function checkpointsOf(
  source: HttpSource,
  download: HttpDownload,
  { resumption }: ImportTarget,
  { checkpointBytes: everyBytes = CHECKPOINT_BYTES }: ImportParts,
): Checkpoints | undefined {
  if (resumption === undefined) return undefined;
  const digest = sourceDigest(source);
  return {
    everyBytes,
    make: async (durableBytes) => {
      const { validator = null, totalBytes = null } = download.version ?? {};
      if (validator === null && source.checksum === undefined) return;
      await resumption.checkpoint({ source: digest, validator, totalBytes, durableBytes });
    },
  };
}

function downloadOf({ source, left }: Fetch, { progress, log, signal, downloadLimits }: ImportParts): HttpDownload {
  const url = URL.parse(source.url);
  if (url === null) throw new ImportError("ConfigInvalid", `"${source.url}" is no URL`);
  const { headers, url: bare } = readCredentials(url, source.credentialsDirectory);
  const authorities =
    source.authoritiesDirectory === undefined ? undefined : readAuthorities(source.authoritiesDirectory);
  return new HttpDownload({
    url: bare,
    headers,
    hasChecksum: source.checksum !== undefined,
    limits: downloadLimits ?? defaultDownloadLimits,
    progress,
    log,
    ...(left === undefined ? {} : { from: versionIn(left) }),
    ...(authorities === undefined ? {} : { authorities: [...rootCertificates, ...authorities] }),
    ...(signal === undefined ? {} : { signal }),
  });
}

function versionIn({ validator, totalBytes, durableBytes }: TransferRecord) {
  return { validator: validator ?? undefined, totalBytes, doneBytes: durableBytes };
}

function readAuthorities(directory: string): string[] {
  const names = readdirSync(directory).filter((name) => !name.startsWith("."));
  return names.map((name) => readFileSync(join(directory, name), "utf8"));
}

interface RawBytes {
  readonly chunks: AsyncIterable<Uint8Array>;
  readonly totalBytes: number | null;
  /** So much of the disk is there. */
  readonly startBytes?: number;
  readonly checkpoints?: Checkpoints | undefined;
}

async function writeRaw(from: RawBytes, target: ImportTarget, progress: ProgressMeter): Promise<number> {
  const { chunks, totalBytes, startBytes, checkpoints } = from;
  if (totalBytes !== null) progress.diskBytes = checkedDiskBytes(totalBytes, target);
  await using writer = new SequentialWriter(target, { startBytes: startBytes ?? 0, checkpoints });
  for await (const chunk of chunks) {
    // However little a file is compressed to: never more than the volume has.
    if (writer.totalBytes + chunk.length > target.sizeBytes)
      throw new ImportError(
        "TargetTooSmall",
        `the disk has more than ${writer.totalBytes} bytes, and the volume ${target.sizeBytes}; make the claim at least as large as the disk`,
      );
    await writer.append(chunk);
  }
  if (writer.totalBytes === 0) throw new ImportError("SourceInvalid", "the file is empty; give one with a disk");
  return await writer.end(SECTOR_BYTES);
}

/** The disk is written while the file still comes in, as far as it is there; with its size unknown, afterwards. */
async function throughSpool(
  from: {
    readonly chunks: AsyncIterable<Uint8Array>;
    readonly totalBytes: number | null;
    readonly scratchDirectory: string;
    readonly keepsAll: boolean;
  },
  target: ImportTarget,
  progress: ProgressMeter,
): Promise<number> {
  await using spool = new Spool({
    directory: from.scratchDirectory,
    limitBytes: target.sizeBytes * 1.125 + QCOW2_SLACK_BYTES,
    keepsAll: from.keepsAll || from.totalBytes === null,
  });
  const convert = async (sizeBytes: number) => {
    const source = spool.asSource(sizeBytes);
    const header = await readQcow2Header(source, target);
    progress.diskBytes = header.sizeBytes;
    await convertQcow2(source, header, target);
    spool.endReading();
    return header.sizeBytes;
  };
  if (from.totalBytes === null) {
    await spool.fill(from.chunks);
    return await convert(spool.filledBytes);
  }
  const filling = spool.fill(from.chunks);
  // Its failure is the conversion's too, which waits for it; a failure of the conversion waits for no server.
  filling.catch(() => undefined);
  const [diskBytes] = await Promise.all([convert(from.totalBytes), filling]);
  return diskBytes;
}
