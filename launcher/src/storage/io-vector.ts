import { copyFromHost, copyToHost, zeroHost } from "../sys/host-memory.ts";
import { IovecBlock } from "../sys/iovec.ts";

/** Ranges that fit one page of native memory; more than any request of ours has. */
export const VECTOR_RANGES = 256;

/** A list of host memory ranges that one operation reads into or writes from, ready for the kernel. */
export class IoVector implements Disposable {
  readonly #block: IovecBlock;
  readonly #addresses: Float64Array;
  readonly #lengths: Float64Array;
  #count = 0;
  #lengthBytes = 0;

  /** Room for `capacity` ranges, 1 to IOVEC_LIMIT. */
  constructor(capacity = VECTOR_RANGES) {
    this.#block = new IovecBlock(capacity);
    this.#addresses = new Float64Array(capacity);
    this.#lengths = new Float64Array(capacity);
  }

  get block(): IovecBlock {
    return this.#block;
  }

  get count(): number {
    return this.#count;
  }

  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  clear(): void {
    this.#count = 0;
    this.#lengthBytes = 0;
  }

  /** Adds a range; it joins the one before where that ends. Throws RangeError when there is no room. */
  append(hostAddress: number, lengthBytes: number): void {
    if (lengthBytes === 0) return;
    this.#lengthBytes += lengthBytes;
    const last = this.#count - 1;
    const lastLength = this.#lengths[last] ?? 0;
    if (last >= 0 && (this.#addresses[last] ?? 0) + lastLength === hostAddress)
      this.#set(last, this.#addresses[last] ?? 0, lastLength + lengthBytes);
    else this.#set(this.#count++, hostAddress, lengthBytes);
  }

  /** Adds what lies from `skipBytes` on in `source`, `lengthBytes` of it. */
  appendPart(source: IoVector, skipBytes: number, lengthBytes: number): void {
    let skip = skipBytes;
    let left = lengthBytes;
    for (let i = 0; i < source.#count && left > 0; i++) {
      const length = source.#lengths[i] ?? 0;
      if (skip < length) {
        const part = Math.min(length - skip, left);
        this.append((source.#addresses[i] ?? 0) + skip, part);
        left -= part;
        skip = 0;
      } else skip -= length;
    }
  }

  /** Takes the first `lengthBytes` off: they have been transferred. */
  dropFront(lengthBytes: number): void {
    let drop = lengthBytes;
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const length = this.#lengths[i] ?? 0;
      const gone = Math.min(drop, length);
      drop -= gone;
      if (gone < length) this.#set(kept++, (this.#addresses[i] ?? 0) + gone, length - gone);
    }
    this.#count = kept;
    this.#lengthBytes -= lengthBytes - drop;
  }

  /** Copies `source`, which is as long as the vector, into its memory. */
  fill(source: Uint8Array): void {
    if (source.length !== this.#lengthBytes) throw new RangeError(`${source.length} bytes for ${this.#lengthBytes}`);
    let from = 0;
    for (let i = 0; i < this.#count; i++) {
      const length = this.#lengths[i] ?? 0;
      copyToHost(this.#addresses[i] ?? 0, source.subarray(from, from + length));
      from += length;
    }
  }

  /** Copies its memory to `target`, which is as long. */
  copyTo(target: Uint8Array): void {
    if (target.length !== this.#lengthBytes) throw new RangeError(`${target.length} bytes for ${this.#lengthBytes}`);
    let to = 0;
    for (let i = 0; i < this.#count; i++) {
      const length = this.#lengths[i] ?? 0;
      copyFromHost(target.subarray(to, to + length), this.#addresses[i] ?? 0);
      to += length;
    }
  }

  /** Makes its memory zero. */
  zero(): void {
    for (let i = 0; i < this.#count; i++) zeroHost(this.#addresses[i] ?? 0, this.#lengths[i] ?? 0);
  }

  /** True when every range starts and ends at a multiple of `bytes`. */
  isAligned(bytes: number): boolean {
    for (let i = 0; i < this.#count; i++)
      if ((this.#addresses[i] ?? 0) % bytes !== 0 || (this.#lengths[i] ?? 0) % bytes !== 0) return false;
    return true;
  }

  /** The ranges, for tests and messages. */
  toArray(): { hostAddress: number; lengthBytes: number }[] {
    return Array.from({ length: this.#count }, (_, i) => ({
      hostAddress: this.#addresses[i] ?? 0,
      lengthBytes: this.#lengths[i] ?? 0,
    }));
  }

  [Symbol.dispose](): void {
    this.#block[Symbol.dispose]();
  }

  #set(index: number, hostAddress: number, lengthBytes: number): void {
    this.#block.set(index, hostAddress, lengthBytes);
    this.#addresses[index] = hostAddress;
    this.#lengths[index] = lengthBytes;
  }
}
