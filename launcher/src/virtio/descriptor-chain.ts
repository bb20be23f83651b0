import type { Gpa } from "../memory/gpa.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";

/**
 * The buffers of one request, in order: first those that the device reads, then those that it writes. All of them were
 * RAM when the chain was taken off the ring. One object serves all requests of a queue: `Virtqueue.pop` fills it, and
 * what a device needs later it copies out first.
 */
export class DescriptorChain {
  /** Index of the first descriptor: names the chain when it is given back. */
  head = 0;
  readableCount = 0;
  writableCount = 0;
  readableBytes = 0;
  writableBytes = 0;
  readonly #addresses: Float64Array;
  readonly #lengths: Uint32Array;

  /** `capacity` is the most descriptors that a chain may have: the queue's size. */
  constructor(capacity: number) {
    this.#addresses = new Float64Array(capacity);
    this.#lengths = new Uint32Array(capacity);
  }

  get capacity(): number {
    return this.#lengths.length;
  }

  get count(): number {
    return this.readableCount + this.writableCount;
  }

  /** Address of segment `index`; readable segments come first. */
  address(index: number): Gpa {
    return (this.#addresses[index] ?? 0) as Gpa;
  }

  lengthBytes(index: number): number {
    return this.#lengths[index] ?? 0;
  }

  clear(head: number): void {
    this.head = head;
    this.readableCount = 0;
    this.writableCount = 0;
    this.readableBytes = 0;
    this.writableBytes = 0;
  }

  /** Appends a segment; the caller has checked room, range and order. */
  append(address: Gpa, lengthBytes: number, writable: boolean): void {
    this.#addresses[this.count] = address;
    this.#lengths[this.count] = lengthBytes;
    if (writable) {
      this.writableCount++;
      this.writableBytes += lengthBytes;
    } else {
      this.readableCount++;
      this.readableBytes += lengthBytes;
    }
  }

  /**
   * Copies readable bytes from `offsetBytes` on into `target`, whatever the split; answers how many (less than
   * `target.length` where the chain ends first).
   */
  read(memory: GuestMemory, offsetBytes: number, target: Uint8Array): number {
    let skip = offsetBytes;
    let done = 0;
    for (let i = 0; i < this.readableCount && done < target.length; i++) {
      const length = this.lengthBytes(i);
      if (skip < length) {
        const part = Math.min(length - skip, target.length - done);
        memory.read((this.address(i) + skip) as Gpa, target.subarray(done, done + part));
        done += part;
        skip = 0;
      } else skip -= length;
    }
    return done;
  }

  /** Copies `source` to the writable bytes from `offsetBytes` on; answers how many there was room for. */
  write(memory: GuestMemory, offsetBytes: number, source: Uint8Array): number {
    let skip = offsetBytes;
    let done = 0;
    for (let i = this.readableCount; i < this.count && done < source.length; i++) {
      const length = this.lengthBytes(i);
      if (skip < length) {
        const part = Math.min(length - skip, source.length - done);
        memory.write((this.address(i) + skip) as Gpa, source.subarray(done, done + part));
        done += part;
        skip = 0;
      } else skip -= length;
    }
    return done;
  }
}
