import { Mapping } from "./mapping.ts";
import { setLong } from "./words.ts";

/** Bytes of a struct iovec. */
const IOVEC_BYTES = 16;

/** The most that one call takes (IOV_MAX). */
export const IOVEC_LIMIT = 1024;

/**
 * An array of struct iovec in memory that the kernel may read at any time until it is disposed: an operation that is
 * under way on libuv's pool or in a ring keeps using it.
 */
export class IovecBlock implements Disposable {
  readonly capacity: number;
  readonly #mapping: Mapping;
  readonly #words: Uint32Array;

  /** Room for `capacity` entries, at most IOVEC_LIMIT. */
  constructor(capacity: number) {
    if (!(capacity >= 1 && capacity <= IOVEC_LIMIT)) throw new RangeError(`iovec capacity ${capacity}`);
    this.capacity = capacity;
    this.#mapping = Mapping.anonymous(Math.ceil((capacity * IOVEC_BYTES) / 4096) * 4096);
    this.#words = new Uint32Array(this.#mapping.buffer);
  }

  /** Where the kernel finds entry `index`. */
  address(index = 0): number {
    return this.#mapping.hostAddress + index * IOVEC_BYTES;
  }

  /** Entry `index` becomes `lengthBytes` at `hostAddress` (below 2^47); no entry, RangeError. */
  set(index: number, hostAddress: number, lengthBytes: number): void {
    if (!(index >= 0 && index < this.capacity)) throw new RangeError(`iovec ${index} of ${this.capacity}`);
    setLong(this.#words, index * 4, hostAddress);
    setLong(this.#words, index * 4 + 2, lengthBytes);
  }

  /** Entries `from` up to `end` move to the front. */
  moveToFront(from: number, end: number): void {
    this.#words.copyWithin(0, from * 4, end * 4);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}
