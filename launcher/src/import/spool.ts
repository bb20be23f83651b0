import { read, unlinkSync, write } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { errorText } from "../log/error-text.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { type Chunks, release } from "./byte-stream.ts";
import { ImportError } from "./import-error.ts";
import { BUFFER_BYTES } from "./sparse-writer.ts";

const readAt = promisify(read);
const writeAt = promisify(write);

/** A file that is read at any place. */
export interface RandomSource {
  readonly fd: number;
  readonly sizeBytes: number;
  /** Resolves once the file's first `endBytes` can be read. */
  available(endBytes: number): Promise<void>;
  /** Copies what memory still has of `offsetBytes` on; false where that is not all of `target`. */
  recall?(target: Uint8Array, offsetBytes: number): boolean;
}

/** Fills `target` from `offsetBytes` of the source on. Throws ImportError where it cannot be. */
export async function readFully(source: RandomSource, target: Uint8Array, offsetBytes: number): Promise<void> {
  await source.available(offsetBytes + target.length);
  if (source.recall?.(target, offsetBytes)) return;
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await readAt(source.fd, target, done, target.length - done, offsetBytes + done);
    if (bytesRead === 0)
      throw new ImportError("SourceInvalid", `the file ends at ${offsetBytes + done}, within a cluster`);
    done += bytesRead;
  }
}

/** A file that is there as a whole. */
export function wholeFile(fd: number, sizeBytes: number): RandomSource {
  return { fd, sizeBytes, available: async () => undefined };
}

interface Waiter {
  readonly endBytes: number;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/** So much of what came last is kept in memory, in pieces of BUFFER_BYTES: who follows close behind reads no file. */
const RECENT_BUFFERS = 6;

/** A file on scratch that is read while it is still being filled: who wants what is not there yet waits. */
export class Spool implements Disposable {
  readonly #file: OwnedFd;
  readonly #limitBytes: number;
  /** Written in large pieces; what is in here is not there yet for those who read. */
  #pending: Buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  /** Whole pieces before #filledBytes, the latest last; there are no others once the file's end is written. */
  readonly #recent: Buffer[] = [];
  #pendingBytes = 0;
  #filledBytes = 0;
  #failure: { readonly reason: unknown } | undefined;
  #waiters: Waiter[] = [];

  /** In `directory`. It may have at most `limitBytes`. */
  constructor(directory: string, limitBytes: number) {
    this.#file = openScratch(directory);
    this.#limitBytes = limitBytes;
  }

  get fd(): number {
    return this.#file.fd;
  }

  /** So far. */
  get filledBytes(): number {
    return this.#filledBytes;
  }

  /** Takes all of `chunks` in. What it throws, those who wait get too. */
  async fill(chunks: Chunks): Promise<void> {
    try {
      for await (const chunk of chunks) await this.#append(chunk);
      await this.#flush();
    } catch (reason) {
      this.#failure = { reason };
      for (const waiter of this.#waiters.splice(0)) waiter.reject(reason);
      throw reason;
    }
  }

  available(endBytes: number): Promise<void> {
    if (endBytes <= this.#filledBytes) return Promise.resolve();
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ endBytes, resolve, reject });
    return promise;
  }

  recall(target: Uint8Array, offsetBytes: number): boolean {
    const start = this.#filledBytes - this.#recent.length * BUFFER_BYTES;
    const end = offsetBytes + target.length;
    if (offsetBytes < start || end > this.#filledBytes) return false;
    for (let at = offsetBytes; at < end; ) {
      const within = (at - start) % BUFFER_BYTES;
      const piece = this.#recent[Math.floor((at - start) / BUFFER_BYTES)];
      if (piece === undefined) return false;
      const bytes = Math.min(BUFFER_BYTES - within, end - at);
      target.set(piece.subarray(within, within + bytes), at - offsetBytes);
      at += bytes;
    }
    return true;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  async #append(chunk: Uint8Array): Promise<void> {
    if (this.#filledBytes + this.#pendingBytes + chunk.length > this.#limitBytes)
      throw new ImportError(
        "TargetTooSmall",
        `the qcow2 file has more than ${this.#limitBytes} bytes, which is more than the volume's size and what a qcow2 file adds to its disk; make the claim larger`,
      );
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + BUFFER_BYTES - this.#pendingBytes);
      this.#pending.set(part, this.#pendingBytes);
      this.#pendingBytes += part.length;
      at += part.length;
      if (this.#pendingBytes === BUFFER_BYTES) await this.#flush();
    }
    release(chunk);
  }

  async #flush(): Promise<void> {
    for (let done = 0; done < this.#pendingBytes; ) {
      const { bytesWritten } = await onScratch(() =>
        writeAt(this.#file.fd, this.#pending, done, this.#pendingBytes - done, this.#filledBytes + done),
      );
      done += bytesWritten;
    }
    this.#filledBytes += this.#pendingBytes;
    this.#remember();
    this.#pendingBytes = 0;
    const end = this.#filledBytes;
    const ready = this.#waiters.filter((waiter) => waiter.endBytes <= end);
    this.#waiters = this.#waiters.filter((waiter) => waiter.endBytes > end);
    for (const waiter of ready) waiter.resolve();
  }

  /** What was just written, and takes the buffer of the oldest for what comes next. */
  #remember(): void {
    if (this.#pendingBytes < BUFFER_BYTES) {
      // The end of the file: it is not at a place of its own.
      this.#recent.length = 0;
      return;
    }
    this.#recent.push(this.#pending);
    const oldest = this.#recent.length > RECENT_BUFFERS ? this.#recent.shift() : undefined;
    this.#pending = oldest ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
  }
}

const SCRATCH_FILE = "download";

function openScratch(directory: string): OwnedFd {
  try {
    const path = join(directory, SCRATCH_FILE);
    const file = openFile(path, { write: true, create: true, truncate: true, noFollow: true });
    // It goes with its descriptor: nothing of it is written to disk that memory still has then.
    unlinkSync(path);
    return file;
  } catch (cause) {
    throw scratchFailed(cause);
  }
}

async function onScratch<T>(step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (cause) {
    throw scratchFailed(cause);
  }
}

function scratchFailed(cause: unknown): ImportError {
  const wayOut = "a qcow2 file from a server needs as much room on the node (emptyDir) as it has bytes";
  return new ImportError("ScratchFailed", `the scratch directory cannot be written (${errorText(cause)}); ${wayOut}`, {
    cause,
  });
}
