const NEWLINE = 10;

/** Cuts a byte stream into lines of a limited length. */
export class LineReader {
  readonly #maxBytes: number;
  #bytes: Buffer = Buffer.alloc(0);

  /** `maxBytes` counts the newline. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  push(bytes: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
  }

  /** The next line without its newline; undefined while it is incomplete. Throws RangeError once it is too long. */
  next(): string | undefined {
    const end = this.#bytes.subarray(0, this.#maxBytes).indexOf(NEWLINE);
    if (end < 0) {
      if (this.#bytes.length >= this.#maxBytes) throw new RangeError(`a line is longer than ${this.#maxBytes} bytes`);
      return undefined;
    }
    const line = this.#bytes.toString("utf8", 0, end);
    this.#bytes = this.#bytes.subarray(end + 1);
    return line;
  }
}
