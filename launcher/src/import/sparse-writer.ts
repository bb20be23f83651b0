import { release } from "./byte-stream.ts";
import type { ImportTarget } from "./target.ts";

/** As much is handed to the kernel at once. */
export const BUFFER_BYTES = 1024 * 1024;

const ZEROES = new Uint8Array(64 * 1024);

/** Writes `data` at `offsetBytes`, except for whole grains of zeroes. `offsetBytes` is a multiple of 512. */
export async function writeSparse(target: ImportTarget, data: Uint8Array, offsetBytes: number): Promise<void> {
  const { grainBytes } = target;
  for (let start = 0; start < data.length; ) {
    const isZero = isZeroGrain(data, start, grainBytes);
    let end = start + grainBytes;
    while (end < data.length && isZeroGrain(data, end, grainBytes) === isZero) end += grainBytes;
    end = Math.min(end, data.length);
    if (isZero) await target.zero(offsetBytes + start, end - start);
    else await target.write(data.subarray(start, end), offsetBytes + start);
    start = end;
  }
}

/** What is left at the end of `data` counts as data. */
function isZeroGrain(data: Uint8Array, at: number, grainBytes: number): boolean {
  if (at + grainBytes > data.length || data[at] !== 0) return false;
  return Buffer.compare(data.subarray(at, at + grainBytes), ZEROES.subarray(0, grainBytes)) === 0;
}

export interface WriterOptions {
  /** A multiple of a sector. */
  readonly startBytes?: number;
  readonly checkpoints?: Checkpoints | undefined;
}

export interface Checkpoints {
  /** How much is written from one to the next. */
  readonly everyBytes: number;
  /** See Resumption.checkpoint. */
  make(durableBytes: number): Promise<void>;
}

/** Writes bytes one after another: gathers them in one buffer while the kernel takes the other. */
export class SequentialWriter implements AsyncDisposable {
  readonly #checkpoints: Checkpoints | undefined;
  readonly #target: ImportTarget;
  #filling = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #spare = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #filledBytes = 0;
  #flushedBytes: number;
  #writing: Promise<void> = Promise.resolve();
  #checkpointBytes: number;
  #checkpointing: Promise<void> = Promise.resolve();

  /** `startBytes` are there already. */
  constructor(target: ImportTarget, { startBytes = 0, checkpoints }: WriterOptions = {}) {
    this.#target = target;
    this.#checkpoints = checkpoints;
    this.#flushedBytes = startBytes;
    this.#checkpointBytes = startBytes;
  }

  /** Nothing is under way any more, however it ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([this.#writing, this.#checkpointing]);
  }

  /** Bytes so far. */
  get totalBytes(): number {
    return this.#flushedBytes + this.#filledBytes;
  }

  /** `chunk` is used up. */
  async append(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + BUFFER_BYTES - this.#filledBytes);
      this.#filling.set(part, this.#filledBytes);
      this.#filledBytes += part.length;
      at += part.length;
      if (this.#filledBytes === BUFFER_BYTES) await this.#flush(BUFFER_BYTES);
    }
    release(chunk);
  }

  /** Writes what is left, and zeroes up to a whole sector. Resolves to the size of the disk. */
  async end(sectorBytes: number): Promise<number> {
    const padded = Math.ceil(this.#filledBytes / sectorBytes) * sectorBytes;
    this.#filling.fill(0, this.#filledBytes, padded);
    await this.#flush(padded);
    await this.#writing;
    await this.#checkpointing;
    return this.#flushedBytes;
  }

  async #flush(lengthBytes: number): Promise<void> {
    await this.#writing;
    await this.#checkpoint();
    const full = this.#filling;
    this.#writing = writeSparse(this.#target, full.subarray(0, lengthBytes), this.#flushedBytes);
    // Awaited by the next one.
    this.#writing.catch(() => undefined);
    this.#filling = this.#spare;
    this.#spare = full;
    this.#flushedBytes += lengthBytes;
    this.#filledBytes = 0;
  }

  /** Beside what is written next; one at a time. */
  async #checkpoint(): Promise<void> {
    const checkpoints = this.#checkpoints;
    if (checkpoints === undefined || this.#flushedBytes - this.#checkpointBytes < checkpoints.everyBytes) return;
    await this.#checkpointing;
    this.#checkpointBytes = this.#flushedBytes;
    this.#checkpointing = checkpoints.make(this.#flushedBytes);
    // Awaited by the next one.
    this.#checkpointing.catch(() => undefined);
  }
}
