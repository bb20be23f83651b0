import { once } from "node:events";
import type { TLSSocket } from "node:tls";
import { BLOCK_BYTES } from "../../storage/block-bitmap.ts";
import { preadFully, seekData, seekHole } from "../../sys/file-io.ts";
import { pageAlignedBuffer } from "../../sys/host-memory.ts";
import { BLOCK_ZEROES_LIMIT_BYTES, diskHeader, PAGES_LIMIT_BYTES } from "../protocol.ts";

/** What one thread takes of a disk at a time. */
export const DISK_CHUNK_BYTES = 1024 * BLOCK_BYTES;
/** Data starts and ends here, whatever the file system says: blocks of devices are no larger. */
const ALIGNMENT_BYTES = 4096;

/** A disk of the source, as its threads are told of it. */
export interface SentDisk {
  readonly name: string;
  readonly fd: number;
  readonly sizeBytes: number;
  /** It has no holes to ask for. */
  readonly isBlockDevice: boolean;
  /** The target's is all zeroes before the first pass. */
  readonly isBlank: boolean;
}

export interface DiskRange {
  readonly start: number;
  readonly end: number;
  /** Of the first pass. */
  readonly isFirst: boolean;
}

/** What was looked at, and how much of that was sent as data. */
export interface DiskProgress {
  readonly sentBytes: number;
  readonly doneBytes: number;
}

/** Reads a disk and sends what it finds, from two pieces of memory in turn: one is read while the other is on its way. */
export class DiskReader {
  readonly #disk: SentDisk;
  readonly #index: number;
  readonly #socket: TLSSocket;
  #pieces: readonly [Piece, Piece] | null = null;
  readonly #zeroes = Buffer.alloc(BLOCK_BYTES);

  constructor(disk: SentDisk, index: number, socket: TLSSocket) {
    this.#disk = disk;
    this.#index = index;
    this.#socket = socket;
  }

  /** Sends the blocks of a range, whole blocks, that `dirty` has; says how far it is. */
  async *send(dirty: Uint32Array, { start, end, isFirst }: DiskRange): AsyncGenerator<DiskProgress> {
    const mayOmitZeroes = isFirst && this.#disk.isBlank;
    for (const [from, to] of dirtyRuns(dirty, start, end)) {
      for (const [dataFrom, dataTo] of this.#extents(from, to, (at, until) => {
        if (!mayOmitZeroes) this.#sendZeroes(at, until);
      })) {
        for (let at = dataFrom; at < dataTo; at += PAGES_LIMIT_BYTES) {
          const until = Math.min(dataTo, at + PAGES_LIMIT_BYTES);
          yield { sentBytes: await this.#sendPiece(at, until, mayOmitZeroes), doneBytes: 0 };
        }
      }
      if (this.#socket.writableNeedDrain) await once(this.#socket, "drain");
      yield { sentBytes: 0, doneBytes: to - from };
    }
  }

  /** Where in the range there is data; tells `hole` of what lies between. */
  *#extents(from: number, to: number, hole: (from: number, to: number) => void): Generator<[number, number]> {
    const { fd, isBlockDevice, sizeBytes } = this.#disk;
    if (isBlockDevice) {
      yield [from, to];
      return;
    }
    for (let at = from; at < to; ) {
      const data = Math.max(at, Math.min(to, down(seekData(fd, at) ?? to)));
      if (data > at) hole(at, data);
      if (data === to) return;
      const end = Math.min(to, sizeBytes, up(seekHole(fd, data) ?? to));
      yield [data, end];
      at = end;
    }
  }

  /** Answers how many bytes of data were sent. */
  async #sendPiece(from: number, to: number, mayOmitZeroes: boolean): Promise<number> {
    this.#pieces ??= [new Piece(), new Piece()];
    const [first, second] = this.#pieces;
    this.#pieces = [second, first];
    await first.free;
    const bytes = first.bytes.subarray(0, to - from);
    const count = preadFully(this.#disk.fd, bytes, from);
    if (count < bytes.length) throw new Error(`disk ${this.#disk.name} ends at ${from + count}; has its file shrunk?`);
    let sentBytes = 0;
    for (const { isZero, start, end } of this.#runs(bytes)) {
      if (!isZero) {
        const data = bytes.subarray(start, end);
        this.#socket.cork();
        this.#socket.write(diskHeader(this.#index, from + start, data.length, data));
        first.free = new Promise((resolve) => this.#socket.write(data, () => resolve()));
        this.#socket.uncork();
        sentBytes += data.length;
      } else if (!mayOmitZeroes) this.#sendZeroes(from + start, from + end);
    }
    return sentBytes;
  }

  /** Blocks that are all zeroes, and those between. */
  *#runs(bytes: Buffer): Generator<{ isZero: boolean; start: number; end: number }> {
    const isZero = (at: number) => {
      const block = bytes.subarray(at, at + BLOCK_BYTES);
      return block.equals(this.#zeroes.subarray(0, block.length));
    };
    for (let start = 0; start < bytes.length; ) {
      const isFirstZero = isZero(start);
      let end = Math.min(bytes.length, start + BLOCK_BYTES);
      while (end < bytes.length && isZero(end) === isFirstZero) end = Math.min(bytes.length, end + BLOCK_BYTES);
      yield { isZero: isFirstZero, start, end };
      start = end;
    }
  }

  #sendZeroes(from: number, to: number): void {
    for (let at = from; at < to; at += BLOCK_ZEROES_LIMIT_BYTES)
      this.#socket.write(diskHeader(this.#index, at, Math.min(BLOCK_ZEROES_LIMIT_BYTES, to - at), null));
  }
}

/** Memory that is read into once the socket has let go of what was there. */
class Piece {
  readonly bytes = pageAlignedBuffer(PAGES_LIMIT_BYTES);
  free: Promise<void> = Promise.resolve();
}

/** Runs of blocks that are set, as bytes inside `[start, end)`. */
function* dirtyRuns(words: Uint32Array, start: number, end: number): Generator<[number, number]> {
  const isDirty = (at: number) => {
    const block = at / BLOCK_BYTES;
    return (((words[block >>> 5] ?? 0) >>> (block & 31)) & 1) === 1;
  };
  for (let at = start; at < end; ) {
    if (!isDirty(at)) {
      at += BLOCK_BYTES;
      continue;
    }
    const from = at;
    while (at < end && isDirty(at)) at += BLOCK_BYTES;
    yield [from, Math.min(at, end)];
  }
}

function down(bytes: number): number {
  return bytes - (bytes % ALIGNMENT_BYTES);
}

function up(bytes: number): number {
  return down(bytes + ALIGNMENT_BYTES - 1);
}
