import { BUFFER_BYTES } from "./sparse-writer.ts";

/** What of a piece was read is known in units of this size. */
const UNIT_BYTES = 512;

/** BUFFER_BYTES of a file in memory, fewer at its end, and what of them was read. */
export class SpoolPiece {
  /** It begins at so many BUFFER_BYTES of the file. */
  readonly index: number;
  readonly buffer: Buffer;
  #lengthBytes = 0;
  #lent = 0;
  /** One for each unit that was read. */
  readonly #read = new Uint8Array(BUFFER_BYTES / UNIT_BYTES);

  constructor(index: number, buffer: Buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)) {
    this.index = index;
    this.buffer = buffer;
  }

  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  /** Nobody looks at it now. */
  get isFree(): boolean {
    return this.#lent === 0;
  }

  get isReadAll(): boolean {
    const unread = this.#read.indexOf(0);
    return unread < 0 || unread * UNIT_BYTES >= this.#lengthBytes;
  }

  /** Takes what fits of `chunk` from `at` on; answers how many bytes that is. */
  append(chunk: Uint8Array, at: number): number {
    const part = chunk.subarray(at, at + BUFFER_BYTES - this.#lengthBytes);
    this.buffer.set(part, this.#lengthBytes);
    this.#lengthBytes += part.length;
    return part.length;
  }

  /** To be looked at until it is given back. Whoever shares its last unit with another one has not read that. */
  lend(startBytes: number, lengthBytes: number, isEndShared: boolean): Uint8Array {
    this.#lent += 1;
    const endBytes = startBytes + lengthBytes;
    const endUnit = Math.ceil(endBytes / UNIT_BYTES) - (isEndShared ? 1 : 0);
    this.#read.fill(1, Math.floor(startBytes / UNIT_BYTES), endUnit);
    return this.buffer.subarray(startBytes, endBytes);
  }

  giveBack(): void {
    this.#lent -= 1;
  }
}
