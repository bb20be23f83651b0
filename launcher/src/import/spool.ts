import { unlinkSync, write } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { errorText } from "../log/error-text.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { type Chunks, release } from "./byte-stream.ts";
import { ImportError } from "./import-error.ts";
import { BufferPool, type FileRange, type RandomSource, readFile, type View } from "./random-source.ts";
import { BUFFER_BYTES } from "./sparse-writer.ts";
import { SpoolPiece } from "./spool-piece.ts";

const writeAt = promisify(write);

/** What was asked for was there, was looked at, and was not kept: only a file that names a place twice asks again. */
export class SpoolForgot extends Error {}

interface Waiter {
  readonly endBytes: number;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/** So much of the file is in memory, in pieces of BUFFER_BYTES. */
const WINDOW_PIECES = 12;

export interface SpoolOptions {
  readonly directory: string;
  /** The file may have at most so many. */
  readonly limitBytes: number;
  /** Everything goes to scratch, and can be looked at again and again. */
  readonly keepsAll: boolean;
}

/**
 * A file that is read at any place while it comes in: who wants what is not there yet waits. Who follows close behind reads
 * from memory, and what was read there is forgotten: scratch gets what is passed over, once its room in memory is needed
 * for what somebody waits for. While nobody waits, the server does.
 */
export class Spool implements AsyncDisposable {
  readonly #file: OwnedFd;
  readonly #limitBytes: number;
  readonly #keepsAll: boolean;
  readonly #buffers = new BufferPool();
  /** What comes in; nothing of it is there yet for those who read. */
  #pending = new SpoolPiece(0);
  /** In the order of the file. */
  readonly #window: SpoolPiece[] = [];
  /** Numbers of pieces. Those before the end that are neither here nor in #window were forgotten. */
  readonly #onScratch = new Set<number>();
  #filledBytes = 0;
  #failure: { readonly reason: unknown } | undefined;
  #waiters: Waiter[] = [];
  /** Nobody will look at anything any more. */
  #isRead = false;
  #wake: (() => void) | undefined;
  #spilling: Promise<void> = Promise.resolve();

  constructor({ directory, limitBytes, keepsAll }: SpoolOptions) {
    this.#file = openScratch(directory);
    this.#limitBytes = limitBytes;
    this.#keepsAll = keepsAll;
  }

  /** So far. */
  get filledBytes(): number {
    return this.#filledBytes;
  }

  /** Pieces that had to go to scratch. */
  get spilledPieces(): number {
    return this.#onScratch.size;
  }

  /** Takes all of `chunks` in. What it throws, those who wait get too. */
  async fill(chunks: Chunks): Promise<void> {
    try {
      for await (const chunk of chunks) await this.#append(chunk);
      await this.#flush();
    } catch (reason) {
      this.#fail(reason);
      throw reason;
    }
  }

  /** Views of the file, which has `sizeBytes` once it is there. */
  asSource(sizeBytes: number): RandomSource {
    return {
      sizeBytes,
      view: async (range) => {
        if (range.offsetBytes + range.lengthBytes > sizeBytes)
          throw new ImportError("SourceInvalid", `the file ends at ${sizeBytes}, within a cluster`);
        return await this.#view(range);
      },
    };
  }

  /** Nothing will be looked at any more: what still comes is only let by. */
  endReading(): void {
    this.#isRead = true;
    this.#progress();
  }

  /** `fill` ends with an error where it has not ended, once its source does. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new Error("the spool is closed"));
    await this.#spilling.catch(() => undefined);
    this.#file[Symbol.dispose]();
  }

  async #view(range: FileRange): Promise<View> {
    const { offsetBytes, lengthBytes, isEndShared = false } = range;
    await this.#available(offsetBytes + lengthBytes);
    const piece = this.#piece(Math.floor(offsetBytes / BUFFER_BYTES));
    const startBytes = offsetBytes % BUFFER_BYTES;
    if (piece === undefined || startBytes + lengthBytes > BUFFER_BYTES) return await this.#gather(range);
    const giveBack = () => {
      piece.giveBack();
      this.#progress();
    };
    return { bytes: piece.lend(startBytes, lengthBytes, isEndShared), [Symbol.dispose]: giveBack };
  }

  /** A copy of what is not in one piece in memory. */
  async #gather({ offsetBytes, lengthBytes, isEndShared = false }: FileRange): Promise<View> {
    const view = this.#buffers.take(lengthBytes);
    for (let done = 0; done < lengthBytes; ) {
      const at = offsetBytes + done;
      const partBytes = Math.min(BUFFER_BYTES - (at % BUFFER_BYTES), lengthBytes - done);
      const into = view.bytes.subarray(done, done + partBytes);
      done += partBytes;
      const index = Math.floor(at / BUFFER_BYTES);
      const piece = this.#piece(index);
      if (piece !== undefined) {
        into.set(piece.lend(at % BUFFER_BYTES, partBytes, isEndShared && done === lengthBytes));
        piece.giveBack();
      } else if (this.#onScratch.has(index)) await readFile(this.#file.fd, into, at);
      else throw new SpoolForgot(`what is at ${at} of the file was forgotten`);
    }
    this.#progress();
    return view;
  }

  #piece(index: number): SpoolPiece | undefined {
    return this.#window.find((piece) => piece.index === index);
  }

  #available(endBytes: number): Promise<void> {
    if (endBytes <= this.#filledBytes) return Promise.resolve();
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ endBytes, resolve, reject });
    this.#progress();
    return promise;
  }

  async #append(chunk: Uint8Array): Promise<void> {
    if (this.#filledBytes + this.#pending.lengthBytes + chunk.length > this.#limitBytes)
      throw new ImportError(
        "TargetTooSmall",
        `the qcow2 file has more than ${this.#limitBytes} bytes, which is more than the volume's size and what a qcow2 file adds to its disk; make the claim larger`,
      );
    for (let at = 0; at < chunk.length; ) {
      at += this.#pending.append(chunk, at);
      if (this.#pending.lengthBytes === BUFFER_BYTES) await this.#flush();
    }
    release(chunk);
  }

  /** Lets others see what has come in. */
  async #flush(): Promise<void> {
    if (this.#pending.lengthBytes === 0) return;
    const spare = await this.#makeRoom();
    this.#window.push(this.#pending);
    this.#filledBytes += this.#pending.lengthBytes;
    this.#pending = new SpoolPiece(this.#pending.index + 1, spare);
    const end = this.#filledBytes;
    const ready = this.#waiters.filter((waiter) => waiter.endBytes <= end);
    this.#waiters = this.#waiters.filter((waiter) => waiter.endBytes > end);
    for (const waiter of ready) waiter.resolve();
  }

  /** Waits until there is room for one more piece in the window; the buffer of the one that went is free. */
  async #makeRoom(): Promise<Buffer | undefined> {
    while (this.#window.length >= WINDOW_PIECES) {
      if (this.#failure !== undefined) throw this.#failure.reason;
      const dispensable = this.#window.findIndex((piece) => piece.isFree && this.#isDispensable(piece));
      if (dispensable >= 0) return this.#window.splice(dispensable, 1)[0]?.buffer;
      const oldest = this.#window.find((piece) => piece.isFree);
      if (oldest !== undefined && (this.#keepsAll || this.#waiters.length > 0)) {
        this.#spilling = this.#spill(oldest);
        await this.#spilling;
      } else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return undefined;
  }

  #isDispensable(piece: SpoolPiece): boolean {
    return this.#isRead || this.#onScratch.has(piece.index) || (!this.#keepsAll && piece.isReadAll);
  }

  async #spill({ index, buffer, lengthBytes }: SpoolPiece): Promise<void> {
    for (let done = 0; done < lengthBytes; ) {
      const { bytesWritten } = await onScratch(() =>
        writeAt(this.#file.fd, buffer, done, lengthBytes - done, index * BUFFER_BYTES + done),
      );
      done += bytesWritten;
    }
    this.#onScratch.add(index);
  }

  #fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const waiter of this.#waiters.splice(0)) waiter.reject(reason);
    this.#progress();
  }

  #progress(): void {
    this.#wake?.();
    this.#wake = undefined;
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
