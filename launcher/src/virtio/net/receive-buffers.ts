import type { Gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { IOVEC_LIMIT, IovecBlock } from "../../sys/iovec.ts";
import { Mapping } from "../../sys/mapping.ts";
import type { VirtioDriver } from "../device.ts";
import { type Virtqueue, VirtqueueError } from "../queue.ts";
import { HeaderOffset, VNET_HEADER_BYTES } from "./protocol.ts";

const BOUNCE_BYTES = 68 * 1024;

/**
 * Chains that were taken off a receive ring and wait for frames, in order, as iovecs that one system call fills. Behind
 * the last of them always stands a buffer of our own: what the driver has no room for yet is not lost.
 */
export class ReceiveBuffers implements Disposable {
  readonly #iovecs = new IovecBlock(IOVEC_LIMIT);
  readonly #bouncePages = Mapping.anonymous(BOUNCE_BYTES);
  readonly #bounce = new Uint8Array(this.#bouncePages.buffer);
  // Segments `first` up to `end` wait; all arrays run along with the iovecs.
  readonly #addresses = new Float64Array(IOVEC_LIMIT);
  readonly #lengths = new Uint32Array(IOVEC_LIMIT);
  #firstSegment = 0;
  #endSegment = 0;
  // Chains, likewise.
  readonly #heads = new Uint16Array(IOVEC_LIMIT);
  readonly #chainSegments = new Uint16Array(IOVEC_LIMIT);
  readonly #chainBytes = new Float64Array(IOVEC_LIMIT);
  #firstChain = 0;
  #endChain = 0;
  #waitingBytes = 0;

  constructor() {
    this.#placeBounce();
  }

  /** Room in the chains that wait. */
  get bytes(): number {
    return this.#waitingBytes;
  }

  get chains(): number {
    return this.#endChain - this.#firstChain;
  }

  get iovecs(): IovecBlock {
    return this.#iovecs;
  }

  /** For readFrame: the first iovec, and how many with the one of our own. */
  get firstIovec(): number {
    return this.#firstSegment;
  }

  get iovecCount(): number {
    return this.#endSegment - this.#firstSegment + 1;
  }

  /** The iovec of our own alone: for a frame that nobody gets. */
  get bounceIovec(): number {
    return this.#endSegment;
  }

  /** Forgets all chains; who has the ring gives them back by resetting it. */
  clear(): void {
    this.#firstSegment = this.#endSegment = 0;
    this.#firstChain = this.#endChain = 0;
    this.#waitingBytes = 0;
    this.#placeBounce();
  }

  /** Takes one more chain off the ring; false when there is none. Throws VirtqueueError for one too small for a header. */
  take(queue: Virtqueue, memory: GuestMemory): boolean {
    const chain = queue.pop();
    if (chain === null) return false;
    if (chain.writableBytes < VNET_HEADER_BYTES)
      throw new VirtqueueError(`a receive buffer of ${chain.writableBytes} bytes has no room for a header`);
    this.#compact(chain.writableCount);
    for (let i = chain.readableCount; i < chain.count; i++) {
      const lengthBytes = chain.lengthBytes(i);
      this.#addresses[this.#endSegment] = chain.address(i);
      this.#lengths[this.#endSegment] = lengthBytes;
      this.#iovecs.set(this.#endSegment++, memory.hostAddress(chain.address(i), lengthBytes), lengthBytes);
    }
    this.#heads[this.#endChain] = chain.head;
    this.#chainSegments[this.#endChain] = chain.writableCount;
    this.#chainBytes[this.#endChain++] = chain.writableBytes;
    this.#waitingBytes += chain.writableBytes;
    this.#placeBounce();
    return true;
  }

  /** Whether a chain of the queue's limit still fits. */
  hasRoomFor(segments: number): boolean {
    return this.#endSegment - this.#firstSegment + segments < IOVEC_LIMIT;
  }

  /** Copies what went to the buffer of our own, `lengthBytes` of it, to where it belongs: `offsetBytes` of the frame. */
  unspill(memory: GuestMemory, offsetBytes: number, lengthBytes: number): void {
    this.write(memory, offsetBytes, this.#bounce.subarray(0, lengthBytes));
  }

  /** Copies `bytes` to `offsetBytes` of the next frame, which has room for them. */
  write(memory: GuestMemory, offsetBytes: number, bytes: Uint8Array): void {
    let skip = offsetBytes;
    let done = 0;
    for (let i = this.#firstSegment; i < this.#endSegment && done < bytes.length; i++) {
      const length = this.#lengths[i] ?? 0;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const part = Math.min(length - skip, bytes.length - done);
      memory.write(((this.#addresses[i] ?? 0) + skip) as Gpa, bytes.subarray(done, done + part));
      done += part;
      skip = 0;
    }
  }

  /** Gives the driver a frame of `frameBytes`, header included, which lies in the first chains. */
  complete(driver: VirtioDriver, queue: Virtqueue, frameBytes: number): void {
    const chains = this.#chainsFor(frameBytes);
    // Section 5.1.6.4.1: the number of chains stands in the first, before the driver sees any.
    this.#writeBufferCount(driver.memory, chains);
    let left = frameBytes;
    for (let i = 0; i < chains; i++) {
      const bytes = Math.min(left, this.#chainBytes[this.#firstChain] ?? 0);
      this.#markWritten(driver.memory, bytes);
      queue.fill(this.#heads[this.#firstChain] ?? 0, bytes);
      left -= bytes;
      this.#firstChain++;
    }
    queue.publish();
  }

  #chainsFor(frameBytes: number): number {
    let room = 0;
    let count = 0;
    while (room < frameBytes) room += this.#chainBytes[this.#firstChain + count++] ?? Number.POSITIVE_INFINITY;
    return count;
  }

  #writeBufferCount(memory: GuestMemory, count: number): void {
    const address = this.#addresses[this.#firstSegment] ?? 0;
    if ((this.#lengths[this.#firstSegment] ?? 0) >= VNET_HEADER_BYTES)
      memory.writeU16((address + HeaderOffset.buffers) as Gpa, count);
    else this.write(memory, HeaderOffset.buffers, Uint8Array.of(count & 0xff, count >>> 8));
  }

  /** The first chain leaves; the kernel has written `bytes` of it. */
  #markWritten(memory: GuestMemory, bytes: number): void {
    let left = bytes;
    for (let i = this.#chainSegments[this.#firstChain] ?? 0; i > 0; i--) {
      const written = Math.min(left, this.#lengths[this.#firstSegment] ?? 0);
      if (written > 0) memory.markDirty((this.#addresses[this.#firstSegment] ?? 0) as Gpa, written);
      left -= written;
      this.#firstSegment++;
    }
    this.#waitingBytes -= this.#chainBytes[this.#firstChain] ?? 0;
  }

  #placeBounce(): void {
    this.#iovecs.set(this.#endSegment, this.#bouncePages.hostAddress, BOUNCE_BYTES);
  }

  /** Moves what waits to the front where `segments` more would not fit behind it. */
  #compact(segments: number): void {
    if (this.#endSegment + segments < IOVEC_LIMIT && this.#endChain < IOVEC_LIMIT) return;
    this.#iovecs.moveToFront(this.#firstSegment, this.#endSegment);
    this.#addresses.copyWithin(0, this.#firstSegment, this.#endSegment);
    this.#lengths.copyWithin(0, this.#firstSegment, this.#endSegment);
    this.#heads.copyWithin(0, this.#firstChain, this.#endChain);
    this.#chainSegments.copyWithin(0, this.#firstChain, this.#endChain);
    this.#chainBytes.copyWithin(0, this.#firstChain, this.#endChain);
    this.#endSegment -= this.#firstSegment;
    this.#endChain -= this.#firstChain;
    this.#firstSegment = this.#firstChain = 0;
  }

  [Symbol.dispose](): void {
    this.#iovecs[Symbol.dispose]();
    this.#bouncePages[Symbol.dispose]();
  }
}
