/**
 * The last `capacityBytes` of a byte stream. Positions count from the stream's first byte and never wrap.
 * Invariant: 0 <= end - start <= capacityBytes.
 */
export class OutputRing {
  readonly capacityBytes: number;
  readonly #bytes: Uint8Array;
  #end = 0;

  constructor(capacityBytes: number) {
    this.capacityBytes = capacityBytes;
    this.#bytes = new Uint8Array(capacityBytes);
  }

  /** Position of the oldest byte that is still here. */
  get start(): number {
    return Math.max(0, this.#end - this.capacityBytes);
  }

  /** Position behind the newest byte. */
  get end(): number {
    return this.#end;
  }

  append(bytes: Uint8Array): void {
    const kept = bytes.length > this.capacityBytes ? bytes.subarray(bytes.length - this.capacityBytes) : bytes;
    const at = (this.#end + bytes.length - kept.length) % this.capacityBytes;
    const untilWrap = Math.min(kept.length, this.capacityBytes - at);
    this.#bytes.set(kept.subarray(0, untilWrap), at);
    this.#bytes.set(kept.subarray(untilWrap), 0);
    this.#end += bytes.length;
  }

  /** A copy of up to `maxBytes` from `position`, which must lie between start and end. */
  read(position: number, maxBytes: number): Uint8Array {
    if (position < this.start || position > this.#end) throw new RangeError(`position ${position} is not in the ring`);
    const length = Math.min(maxBytes, this.#end - position);
    const at = position % this.capacityBytes;
    const untilWrap = Math.min(length, this.capacityBytes - at);
    const copy = new Uint8Array(length);
    copy.set(this.#bytes.subarray(at, at + untilWrap), 0);
    copy.set(this.#bytes.subarray(0, length - untilWrap), untilWrap);
    return copy;
  }
}
