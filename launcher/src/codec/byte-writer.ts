const FIRST_BYTES = 256;

/** Bytes that grow as they are written; numbers are little endian. */
export class ByteWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** What was written so far; valid until the next write. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** `value` is an integer from 0 to 2^(8 `widthBytes`) - 1. */
  uint(value: number, widthBytes: 1 | 2 | 4): void {
    const at = this.#grow(widthBytes);
    if (widthBytes === 1) this.#view.setUint8(at, value);
    else if (widthBytes === 2) this.#view.setUint16(at, value, true);
    else this.#view.setUint32(at, value, true);
  }

  uint64(value: bigint): void {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value, true);
  }

  raw(bytes: Uint8Array): void {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
  }

  #grow(lengthBytes: number): number {
    const at = this.#length;
    this.#length += lengthBytes;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}
