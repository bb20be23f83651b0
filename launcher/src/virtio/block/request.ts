import type { Gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { IoVector, VECTOR_RANGES } from "../../storage/io-vector.ts";
import { type IoCompletion, SECTOR_BYTES, type Storage } from "../../storage/storage.ts";
import type { DescriptorChain } from "../descriptor-chain.ts";
import type { VirtioDriver } from "../device.ts";
import { VirtqueueError } from "../queue.ts";
import {
  ID_BYTES,
  RANGE_BYTES,
  RANGE_FLAG_UNMAP,
  REQUEST_HEADER_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./protocol.ts";

const EOPNOTSUPP = 95;
const STATUS_BYTES = 1;

/** The disk that requests go to. */
export interface RequestTarget {
  readonly storage: Storage;
  /** Answer to GET_ID, ID_BYTES long. */
  readonly id: Uint8Array;
  readonly capacitySectors: number;
  readonly maxRangeSectors: number;
  /** Writes are durable before they complete. */
  readonly writeThrough: boolean;
}

/** Who is told that a request ended; the request may be used again then. */
export interface RequestOwner {
  /** `errno` is the storage's error, 0 when there was none. */
  requestEnded(request: BlockRequest, errno: number): void;
}

/**
 * One request from its chain to its status. The objects are used again and again; each owns the iovecs that the kernel
 * works with while it is under way. Whatever a driver asks ends with a status, a chain without room for one apart.
 */
export class BlockRequest implements IoCompletion {
  /** Whose request it is, while it is under way. */
  driver: VirtioDriver | null = null;
  queueIndex = 0;
  head = 0;
  /** For the used ring: bytes of the writable part that were filled. */
  writtenBytes = 0;
  /** What the driver asked for, VIRTIO_BLK_T_*; -1 where it did not say. */
  type = -1;
  /** Of the storage, that this moved or changed. */
  dataBytes = 0;
  /** When the device took it, by performance.now(). */
  startedMs = 0;
  readonly #owner: RequestOwner;
  readonly #vector = new IoVector();
  /** Guest memory that the storage fills, for the dirty log. */
  readonly #filledAddresses = new Float64Array(VECTOR_RANGES);
  readonly #filledLengths = new Float64Array(VECTOR_RANGES);
  #filledCount = 0;
  readonly #scratch = new Uint8Array(REQUEST_HEADER_BYTES);
  readonly #scratchView = new DataView(this.#scratch.buffer);
  #sectorLow = 0;
  #sectorHigh = 0;
  #statusAddress = 0 as Gpa;
  #writableBytes = 0;
  /** Set between a write and the flush that makes it durable. */
  #flushesNext: Storage | null = null;

  constructor(owner: RequestOwner) {
    this.#owner = owner;
  }

  /** Throws VirtqueueError for a chain without room for a status: there is no way to answer it. */
  static check(chain: DescriptorChain): void {
    if (chain.writableBytes < STATUS_BYTES) throw new VirtqueueError("a block request without a status byte");
  }

  /** Takes all it needs out of `chain`, which has room for a status, and runs it. */
  start(driver: VirtioDriver, queueIndex: number, chain: DescriptorChain, target: RequestTarget): void {
    const last = chain.count - 1;
    this.driver = driver;
    this.queueIndex = queueIndex;
    this.head = chain.head;
    this.#statusAddress = (chain.address(last) + chain.lengthBytes(last) - STATUS_BYTES) as Gpa;
    this.#writableBytes = chain.writableBytes;
    this.#filledCount = 0;
    this.#flushesNext = null;
    this.type = -1;
    this.dataBytes = 0;
    this.startedMs = performance.now();
    this.#vector.clear();
    if (this.#readHeader(driver.memory, chain)) this.#run(driver.memory, chain, target);
    else this.#end(VIRTIO_BLK_S_IOERR, 0);
  }

  /** Of the storage. */
  completed(errno: number): void {
    const flush = this.#flushesNext;
    this.#flushesNext = null;
    if (flush && errno === 0) flush.flush(this);
    else if (errno === 0) this.#end(VIRTIO_BLK_S_OK, 0);
    else this.#end(errno === EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR, errno);
  }

  /** The header may be split in any way (section 2.7.4.2). */
  #readHeader(memory: GuestMemory, chain: DescriptorChain): boolean {
    if (chain.readableBytes < REQUEST_HEADER_BYTES) return false;
    const at = chain.address(0);
    if (chain.lengthBytes(0) >= REQUEST_HEADER_BYTES) {
      this.type = memory.readU32(at);
      this.#sectorLow = memory.readU32((at + 8) as Gpa);
      this.#sectorHigh = memory.readU32((at + 12) as Gpa);
      return true;
    }
    chain.read(memory, 0, this.#scratch);
    this.type = this.#scratchView.getUint32(0, true);
    this.#sectorLow = this.#scratchView.getUint32(8, true);
    this.#sectorHigh = this.#scratchView.getUint32(12, true);
    return true;
  }

  #run(memory: GuestMemory, chain: DescriptorChain, target: RequestTarget): void {
    switch (this.type) {
      case VIRTIO_BLK_T_IN:
        this.#read(memory, chain, target);
        break;
      case VIRTIO_BLK_T_OUT:
        this.#write(memory, chain, target);
        break;
      case VIRTIO_BLK_T_FLUSH:
        target.storage.flush(this);
        break;
      case VIRTIO_BLK_T_GET_ID:
        this.#getId(memory, chain, target);
        break;
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        this.#changeRange(memory, chain, target);
        break;
      default:
        this.#end(VIRTIO_BLK_S_UNSUPP, 0);
    }
  }

  #read(memory: GuestMemory, chain: DescriptorChain, target: RequestTarget): void {
    const lengthBytes = chain.writableBytes - STATUS_BYTES;
    const offsetBytes = offsetOf(this.#sectorLow, this.#sectorHigh, lengthBytes, target);
    if (offsetBytes < 0 || chain.readableBytes !== REQUEST_HEADER_BYTES) {
      this.#end(VIRTIO_BLK_S_IOERR, 0);
      return;
    }
    for (let i = chain.readableCount, left = lengthBytes; left > 0; i++) {
      const part = Math.min(left, chain.lengthBytes(i));
      this.#vector.append(memory.hostAddress(chain.address(i), part), part);
      this.#filledAddresses[this.#filledCount] = chain.address(i);
      this.#filledLengths[this.#filledCount++] = part;
      left -= part;
    }
    this.dataBytes = lengthBytes;
    target.storage.read(offsetBytes, this.#vector, this);
  }

  #write(memory: GuestMemory, chain: DescriptorChain, target: RequestTarget): void {
    const lengthBytes = chain.readableBytes - REQUEST_HEADER_BYTES;
    const offsetBytes = offsetOf(this.#sectorLow, this.#sectorHigh, lengthBytes, target);
    if (offsetBytes < 0 || target.storage.readOnly || chain.writableBytes !== STATUS_BYTES) {
      this.#end(VIRTIO_BLK_S_IOERR, 0);
      return;
    }
    for (let i = 0, skip = REQUEST_HEADER_BYTES; i < chain.readableCount; i++) {
      const length = chain.lengthBytes(i);
      const skipped = Math.min(skip, length);
      skip -= skipped;
      const part = length - skipped;
      if (part > 0) this.#vector.append(memory.hostAddress((chain.address(i) + skipped) as Gpa, part), part);
    }
    this.#flushesNext = target.writeThrough ? target.storage : null;
    this.dataBytes = lengthBytes;
    target.storage.write(offsetBytes, this.#vector, this);
  }

  #getId(memory: GuestMemory, chain: DescriptorChain, target: RequestTarget): void {
    const hasRoom = chain.writableBytes - STATUS_BYTES >= ID_BYTES;
    if (hasRoom) chain.write(memory, 0, target.id);
    this.#end(hasRoom ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR, 0);
  }

  /** Section 5.2.6.2: one range a request, as max_discard_seg and max_write_zeroes_seg say. */
  #changeRange(memory: GuestMemory, chain: DescriptorChain, target: RequestTarget): void {
    const isSound = chain.readableBytes === REQUEST_HEADER_BYTES + RANGE_BYTES && chain.writableBytes === STATUS_BYTES;
    if (!isSound || target.storage.readOnly) {
      this.#end(VIRTIO_BLK_S_IOERR, 0);
      return;
    }
    chain.read(memory, REQUEST_HEADER_BYTES, this.#scratch);
    const sectors = this.#scratchView.getUint32(8, true);
    const flags = this.#scratchView.getUint32(12, true);
    const isDiscard = this.type === VIRTIO_BLK_T_DISCARD;
    if (flags !== 0 && (isDiscard || flags !== RANGE_FLAG_UNMAP)) {
      this.#end(VIRTIO_BLK_S_UNSUPP, 0);
      return;
    }
    const [low, high] = [this.#scratchView.getUint32(0, true), this.#scratchView.getUint32(4, true)];
    const offsetBytes = sectors > target.maxRangeSectors ? -1 : offsetOf(low, high, sectors * SECTOR_BYTES, target);
    if (offsetBytes < 0) this.#end(VIRTIO_BLK_S_IOERR, 0);
    else if (sectors === 0) this.#end(VIRTIO_BLK_S_OK, 0);
    else this.#startRange(target, offsetBytes, sectors * SECTOR_BYTES, flags);
  }

  #startRange(target: RequestTarget, offsetBytes: number, lengthBytes: number, flags: number): void {
    this.dataBytes = lengthBytes;
    if (this.type === VIRTIO_BLK_T_DISCARD) {
      target.storage.discard(offsetBytes, lengthBytes, this);
      return;
    }
    this.#flushesNext = target.writeThrough ? target.storage : null;
    target.storage.writeZeroes(offsetBytes, lengthBytes, flags === RANGE_FLAG_UNMAP, this);
  }

  #end(status: number, errno: number): void {
    const driver = this.driver;
    if (!driver) return;
    // The kernel may have written here whatever became of the request, or of the driver.
    for (let i = 0; i < this.#filledCount; i++)
      driver.memory.markDirty((this.#filledAddresses[i] ?? 0) as Gpa, this.#filledLengths[i] ?? 0);
    if (driver.isLive) driver.memory.writeU8(this.#statusAddress, status);
    this.writtenBytes = status === VIRTIO_BLK_S_OK ? this.#writableBytes : STATUS_BYTES;
    this.#owner.requestEnded(this, errno);
  }
}

/** Where the range starts; -1 where it is not whole sectors inside the disk. Nothing is multiplied before that is known. */
function offsetOf(sectorLow: number, sectorHigh: number, lengthBytes: number, target: RequestTarget): number {
  const sector = sectorHigh * 2 ** 32 + sectorLow;
  const sectors = lengthBytes / SECTOR_BYTES;
  if (!Number.isInteger(sectors) || sectors > target.capacitySectors || sector > target.capacitySectors - sectors)
    return -1;
  return sector * SECTOR_BYTES;
}
