import { fstatSync, fsync, ftruncate, read, write } from "node:fs";
import { getSystemErrorMessage, promisify } from "node:util";
import { blockDeviceSizeBytes, zeroOutAsync } from "../sys/block-device.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { fdatasync, ftruncate as truncateNow } from "../sys/file-io.ts";
import { ImportError } from "./import-error.ts";
import { RecordFile, type TransferRecord } from "./transfer-record.ts";

/** Where a disk is written to. Ranges may come in any order; what is never mentioned reads as zeroes. */
export interface ImportTarget extends Disposable {
  /** The disk must not be larger. */
  readonly sizeBytes: number;
  /** Zeroes are looked for in pieces of this size; fewer are better written. */
  readonly grainBytes: number;
  /** Writes all of `data` at `offsetBytes`. */
  write(data: Uint8Array, offsetBytes: number): Promise<void>;
  /** The range shall read as zeroes. */
  zero(offsetBytes: number, lengthBytes: number): Promise<void>;
  /**
   * Before the first byte: takes back what was written, here and by an import before, but for the first `keptBytes`. The rest
   * of the disk is written or zeroed anew. Nothing is to be under way.
   */
  restart(keptBytes?: number): Promise<void>;
  /** Where a volume has a place for a record: an import after this one can go on from it. */
  readonly resumption?: Resumption;
  /** The disk has `diskBytes`: sets its size, and makes all of it durable. */
  finish(diskBytes: number): Promise<void>;
}

export interface Resumption {
  /** What an import before this one left, and is still there. */
  left(): TransferRecord | undefined;
  /** The first bytes, as they were left. */
  written(lengthBytes: number): AsyncIterable<Uint8Array>;
  /**
   * Resolves once all before `durableBytes` is durable, and on record. Nothing is to be under way when it is called; what lies
   * behind may be written meanwhile.
   */
  checkpoint(record: TransferRecord): Promise<void>;
}

const writeAt = promisify(write);
const readAt = promisify(read);
const sync = promisify(fsync);
const truncate = promisify(ftruncate);

async function writeFully(fd: number, data: Uint8Array, offsetBytes: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await writeAt(fd, data, done, data.length - done, offsetBytes + done);
    done += bytesWritten;
  }
}

/** `step`, whose failure is the volume's. */
async function onTarget<T>(what: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const isFull = /ENOSPC|EDQUOT/.test(reason);
    const wayOut = isFull ? "the volume has less room than it says; make the claim larger" : "check the volume";
    throw new ImportError("TargetFailed", `${what} (${reason}); ${wayOut}`, { cause });
  }
}

const READ_BYTES = 2 ** 20;

/** The file of a file system: holes are what is not written. */
export class FileTarget implements ImportTarget, Resumption {
  readonly sizeBytes: number;
  readonly grainBytes = 4096;
  readonly #file: OwnedFd;
  readonly #directory: OwnedFd;
  readonly #record: RecordFile;

  /** Both are the target's from now on. */
  constructor(file: OwnedFd, directory: OwnedFd, sizeBytes: number) {
    this.#file = file;
    this.#directory = directory;
    this.#record = new RecordFile(directory.fd);
    this.sizeBytes = sizeBytes;
  }

  get resumption(): Resumption {
    return this;
  }

  left(): TransferRecord | undefined {
    const record = this.#record.read();
    return record !== undefined && record.durableBytes <= fstatSync(this.#file.fd).size ? record : undefined;
  }

  async *written(lengthBytes: number): AsyncGenerator<Uint8Array> {
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    for (let at = 0; at < lengthBytes; ) {
      const wanted = Math.min(READ_BYTES, lengthBytes - at);
      const { bytesRead } = await onTarget(`reading at ${at} failed`, () =>
        readAt(this.#file.fd, buffer, 0, wanted, at),
      );
      if (bytesRead === 0) throw new ImportError("TargetFailed", `the disk ends at ${at} bytes, not at ${lengthBytes}`);
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  }

  checkpoint(record: TransferRecord): Promise<void> {
    return onTarget("what is written cannot be made durable", async () => {
      // At once, before anything is written behind it: zeroes at the end were not written.
      truncateNow(this.#file.fd, record.durableBytes);
      await sync(this.#file.fd);
      await this.#record.write(record);
    });
  }

  write(data: Uint8Array, offsetBytes: number): Promise<void> {
    return onTarget(`writing at ${offsetBytes} failed`, () => writeFully(this.#file.fd, data, offsetBytes));
  }

  async zero(): Promise<void> {}

  async restart(keptBytes = 0): Promise<void> {
    await onTarget("the disk cannot be emptied", async () => {
      // First: it must never tell of what another source has written.
      if (keptBytes === 0) this.#record.forget();
      await truncate(this.#file.fd, keptBytes);
    });
  }

  async finish(diskBytes: number): Promise<void> {
    await onTarget("the disk cannot be made durable", async () => {
      await truncate(this.#file.fd, diskBytes);
      await sync(this.#file.fd);
      this.#record.forget();
      fdatasync(this.#directory.fd);
    });
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}

/** What is zeroed behind the disk and at the end of its device, where an older disk may have left its tables. */
const TAIL_BYTES = 2 ** 20;

/** The largest logical block that devices have: what is not a multiple of it is written rather than zeroed. */
const BLOCK_BYTES = 4096;

/** A block device, which may hold anything: zeroes are written, in the fastest way that it has. */
export class DeviceTarget implements ImportTarget {
  readonly sizeBytes: number;
  readonly grainBytes = 64 * 1024;
  readonly #device: OwnedFd;
  readonly #deviceBytes: number;
  /** Zeroes that are still to be written: neighbours become one. */
  #zeroStart = 0;
  #zeroEnd = 0;

  /** `device` is the target's from now on. */
  constructor(device: OwnedFd, sizeBytes: number) {
    this.#device = device;
    this.#deviceBytes = blockDeviceSizeBytes(device.fd);
    this.sizeBytes = Math.min(sizeBytes, this.#deviceBytes);
  }

  write(data: Uint8Array, offsetBytes: number): Promise<void> {
    return onTarget(`writing at ${offsetBytes} failed`, () => writeFully(this.#device.fd, data, offsetBytes));
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (offsetBytes === this.#zeroEnd) {
      this.#zeroEnd += lengthBytes;
      return;
    }
    const [start, end] = [this.#zeroStart, this.#zeroEnd];
    this.#zeroStart = offsetBytes;
    this.#zeroEnd = offsetBytes + lengthBytes;
    await this.#zeroOut(start, end);
  }

  async restart(): Promise<void> {
    this.#zeroStart = 0;
    this.#zeroEnd = 0;
  }

  async finish(diskBytes: number): Promise<void> {
    const tailEnd = Math.min(diskBytes + TAIL_BYTES, this.#deviceBytes);
    await this.zero(diskBytes, tailEnd - diskBytes);
    const lastStart = Math.max(tailEnd, this.#deviceBytes - TAIL_BYTES);
    await this.zero(lastStart, this.#deviceBytes - lastStart);
    await this.#zeroOut(this.#zeroStart, this.#zeroEnd);
    await onTarget("the disk cannot be made durable", () => sync(this.#device.fd));
  }

  [Symbol.dispose](): void {
    this.#device[Symbol.dispose]();
  }

  async #zeroOut(start: number, end: number): Promise<void> {
    if (start === end) return;
    const firstBlock = Math.min(end, Math.ceil(start / BLOCK_BYTES) * BLOCK_BYTES);
    const lastBlock = Math.max(firstBlock, Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES);
    await this.#writeZeroes(start, firstBlock);
    await this.#writeZeroes(lastBlock, end);
    if (firstBlock === lastBlock) return;
    await onTarget(`zeroing ${lastBlock - firstBlock} bytes at ${firstBlock} failed`, async () => {
      const { promise, resolve } = Promise.withResolvers<number>();
      zeroOutAsync(this.#device.fd, firstBlock, lastBlock - firstBlock, resolve);
      const result = await promise;
      if (result < 0) throw new Error(getSystemErrorMessage(result));
    });
  }

  async #writeZeroes(start: number, end: number): Promise<void> {
    if (start < end) await this.write(new Uint8Array(end - start), start);
  }
}
