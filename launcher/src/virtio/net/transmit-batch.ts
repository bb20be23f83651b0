import type { GuestMemory } from "../../memory/guest-memory.ts";
import { FILTER_BYTES } from "../../net/frame-filter.ts";
import { type FrameWriter, WRITE_BATCH } from "../../sys/frame-writer.ts";
import { IOVEC_LIMIT, IovecBlock } from "../../sys/iovec.ts";
import { Mapping } from "../../sys/mapping.ts";
import type { DescriptorChain } from "../descriptor-chain.ts";
import type { FrameQueue } from "./data-path.ts";
import type { DirectionCounter } from "./network-use.ts";
import { VNET_HEADER_BYTES } from "./protocol.ts";

const HEAD_BYTES = VNET_HEADER_BYTES + FILTER_BYTES;
const HEAD_STRIDE = 160;
const PAGE_BYTES = 4096;
const EINVAL = 22;

/** The beginning of a frame with its header, copied from the guest, which may change its own memory. */
export interface FrameHead {
  readonly hostAddress: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** `bytes` without the header. */
  readonly frame: Uint8Array;
}

export interface TransmitBatchParts {
  readonly tap: FrameQueue;
  readonly writer: FrameWriter;
  /** The longest chain. */
  readonly chainLimit: number;
  readonly counter: DirectionCounter;
}

/**
 * Frames that were taken off a transmit ring and checked, and go to the TAP together. The kernel gets the beginning of
 * each from a head of its own, as it was checked, and the rest from guest memory.
 */
export class TransmitBatch implements Disposable {
  readonly #parts: TransmitBatchParts;
  readonly #iovecs = new IovecBlock(IOVEC_LIMIT);
  readonly #headPages = Mapping.anonymous(Math.ceil((WRITE_BATCH * HEAD_STRIDE) / PAGE_BYTES) * PAGE_BYTES);
  readonly #heads: readonly FrameHead[];
  readonly #ranges = { iovecs: this.#iovecs, ends: new Uint16Array(WRITE_BATCH) };
  readonly #results = new Int32Array(WRITE_BATCH);
  #count = 0;
  #iovecEnd = 0;

  constructor(parts: TransmitBatchParts) {
    this.#parts = parts;
    const { buffer, hostAddress } = this.#headPages;
    this.#heads = Array.from({ length: WRITE_BATCH }, (_, i) => {
      const bytes = new Uint8Array(buffer, i * HEAD_STRIDE, HEAD_BYTES);
      const view = new DataView(buffer, i * HEAD_STRIDE, HEAD_BYTES);
      return { hostAddress: hostAddress + i * HEAD_STRIDE, bytes, view, frame: bytes.subarray(VNET_HEADER_BYTES) };
    });
  }

  /** Copies the beginning of the frame in `chain` to where `add` takes it from, after what there is no room for any more. */
  copyHead(memory: GuestMemory, chain: DescriptorChain): FrameHead {
    const isFull = this.#count === WRITE_BATCH || this.#iovecEnd + this.#parts.chainLimit + 1 > IOVEC_LIMIT;
    if (isFull) this.flush();
    const head = this.#heads[this.#count] as FrameHead;
    const wanted = headBytesOf(chain);
    for (let i = 0, done = 0; done < wanted; i++) {
      const part = Math.min(chain.lengthBytes(i), wanted - done);
      memory.readShort(chain.address(i), head.bytes, done, part);
      done += part;
    }
    return head;
  }

  /** The frame in `chain`, whose head was copied last, is one of the batch; its memory stays the device's until `flush`. */
  add(memory: GuestMemory, chain: DescriptorChain): void {
    const iovecs = this.#iovecs;
    const headBytes = headBytesOf(chain);
    let end = this.#iovecEnd;
    iovecs.set(end++, this.#heads[this.#count]?.hostAddress ?? 0, headBytes);
    for (let i = 0, skip = headBytes; i < chain.readableCount; i++) {
      const lengthBytes = chain.lengthBytes(i);
      if (skip >= lengthBytes) {
        skip -= lengthBytes;
        continue;
      }
      iovecs.set(end++, memory.hostAddress(chain.address(i), lengthBytes) + skip, lengthBytes - skip);
      skip = 0;
    }
    this.#ranges.ends[this.#count++] = end;
    this.#iovecEnd = end;
  }

  /** Sends what was added, and counts it. */
  flush(): void {
    const count = this.#count;
    if (count === 0) return;
    this.#count = this.#iovecEnd = 0;
    const { tap, writer, counter } = this.#parts;
    writer.write(tap.fd, this.#ranges, count, this.#results);
    for (let i = 0; i < count; i++) {
      const result = this.#results[i] ?? 0;
      if (result >= 0) counter.count(result - VNET_HEADER_BYTES);
      else if (result === -EINVAL) counter.errors++;
      else counter.dropped++;
    }
  }

  [Symbol.dispose](): void {
    this.#iovecs[Symbol.dispose]();
    this.#headPages[Symbol.dispose]();
  }
}

function headBytesOf(chain: DescriptorChain): number {
  return Math.min(HEAD_BYTES, chain.readableBytes);
}
