import { CodecError } from "./codec-error.ts";

/** Reads what a ByteWriter wrote, from bytes that may be anything. All methods throw CodecError at the end of the bytes. */
export class ByteReader {
  /** Of the format that the bytes are in; fields that came later have their default. */
  readonly version: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array, version: number) {
    this.version = version;
    // Not a Buffer, whose slices are no copies.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get leftBytes(): number {
    return this.#bytes.length - this.#at;
  }

  uint(widthBytes: 1 | 2 | 4): number {
    const at = this.#take(widthBytes);
    if (widthBytes === 1) return this.#view.getUint8(at);
    return widthBytes === 2 ? this.#view.getUint16(at, true) : this.#view.getUint32(at, true);
  }

  uint64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  /** A copy: the source may be a buffer that is used again. */
  raw(lengthBytes: number): Uint8Array {
    const at = this.#take(lengthBytes);
    return this.#bytes.slice(at, at + lengthBytes);
  }

  #take(lengthBytes: number): number {
    if (lengthBytes > this.leftBytes)
      throw new CodecError(`${lengthBytes} bytes are wanted, and ${this.leftBytes} are left`);
    const at = this.#at;
    this.#at += lengthBytes;
    return at;
  }
}
