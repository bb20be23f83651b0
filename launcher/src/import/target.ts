import { fsync, ftruncate, write } from "node:fs";
import { getSystemErrorMessage, promisify } from "node:util";
import { blockDeviceSizeBytes, zeroOutAsync } from "../sys/block-device.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { fdatasync } from "../sys/file-io.ts";
import { ImportError } from "./import-error.ts";

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
  /** Takes back what was written, none of which is to be under way: all of the disk is written or zeroed anew. */
  restart(): Promise<void>;
  /** The disk has `diskBytes`: sets its size, and makes all of it durable. */
  finish(diskBytes: number): Promise<void>;
}

const writeAt = promisify(write);
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

/** The file of a file system: holes are what is not written. */
export class FileTarget implements ImportTarget {
  readonly sizeBytes: number;
  readonly grainBytes = 4096;
  readonly #file: OwnedFd;
  readonly #directory: OwnedFd;

  /** `file` is empty; both are the target's from now on. */
  constructor(file: OwnedFd, directory: OwnedFd, sizeBytes: number) {
    this.#file = file;
    this.#directory = directory;
    this.sizeBytes = sizeBytes;
  }

  write(data: Uint8Array, offsetBytes: number): Promise<void> {
    return onTarget(`writing at ${offsetBytes} failed`, () => writeFully(this.#file.fd, data, offsetBytes));
  }

  async zero(): Promise<void> {}

  async restart(): Promise<void> {
    await onTarget("the disk cannot be emptied", () => truncate(this.#file.fd, 0));
  }

  async finish(diskBytes: number): Promise<void> {
    await onTarget("the disk cannot be made durable", async () => {
      await truncate(this.#file.fd, diskBytes);
      await sync(this.#file.fd);
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
