import { CodecError } from "../../codec/codec-error.ts";
import { pageAlignedBuffer } from "../../sys/host-memory.ts";
import {
  BLOCK_ZEROES_LIMIT_BYTES,
  DISK_PART_BYTES,
  DISK_SECTOR_BYTES,
  type DiskPart,
  diskChecksum,
  diskPartOf,
  MEMORY_FRAME,
  MEMORY_HEADER_BYTES,
  PAGES_LIMIT_BYTES,
} from "../protocol.ts";
import type { Payload } from "./memory-stream.ts";

/** Where the bytes of one disk go. Offsets and lengths are inside it, and whole sectors. */
export interface DiskTarget {
  readonly name: string;
  readonly sizeBytes: number;
  /** `bytes` start at a page, as direct I/O wants it. */
  write(offsetBytes: number, bytes: Uint8Array): void;
  zero(offsetBytes: number, lengthBytes: number): void;
}

/** Reads the frames about disks of one connection: nothing reaches a disk before it is whole, checked, and that disk's. */
export class DiskFrames {
  readonly #disks: readonly DiskTarget[];
  readonly #head = Buffer.alloc(MEMORY_HEADER_BYTES + DISK_PART_BYTES);
  /** Bytes of the frame under way; made when first needed. */
  #data: Buffer | null = null;

  constructor(disks: readonly DiskTarget[]) {
    this.#disks = disks;
  }

  /** Of the frame that `header` begins: who takes its payload. Throws CodecError. */
  begin(header: Uint8Array, payloadBytes: number, offsetBytes: number): Payload {
    this.#head.set(header);
    const hasData = this.#head.readUInt32LE(0) === MEMORY_FRAME.blocks;
    const dataBytes = payloadBytes - DISK_PART_BYTES;
    if (hasData ? dataBytes <= 0 || dataBytes > PAGES_LIMIT_BYTES : dataBytes !== 0)
      throw new CodecError(`a frame of ${payloadBytes} bytes about a disk`);
    return new DiskPayload(this.#head, this.#buffer(dataBytes), (data) => this.#whole(offsetBytes, hasData, data));
  }

  #buffer(dataBytes: number): Uint8Array {
    if (dataBytes === 0) return new Uint8Array(0);
    this.#data ??= pageAlignedBuffer(PAGES_LIMIT_BYTES);
    return this.#data.subarray(0, dataBytes);
  }

  #whole(offsetBytes: number, hasData: boolean, data: Uint8Array): void {
    const part = diskPartOf(this.#head.subarray(MEMORY_HEADER_BYTES));
    const disk = this.#checked(part, offsetBytes, hasData ? data.length : null);
    if (diskChecksum(this.#head, hasData ? data : null) !== part.checksum)
      throw new CodecError(`what came of disk ${disk.name} at ${offsetBytes} is damaged`);
    if (hasData) disk.write(offsetBytes, data);
    else disk.zero(offsetBytes, part.lengthBytes);
  }

  #checked({ disk: index, lengthBytes }: DiskPart, offsetBytes: number, dataBytes: number | null): DiskTarget {
    const disk = this.#disks[index];
    if (!disk) throw new CodecError(`disk number ${index} of ${this.#disks.length}`);
    const isWhole = offsetBytes % DISK_SECTOR_BYTES === 0 && lengthBytes % DISK_SECTOR_BYTES === 0;
    const fits = lengthBytes > 0 && lengthBytes <= (dataBytes ?? BLOCK_ZEROES_LIMIT_BYTES);
    const isInside = offsetBytes <= disk.sizeBytes - lengthBytes;
    if (!isWhole || !fits || !isInside || (dataBytes !== null && dataBytes !== lengthBytes))
      throw new CodecError(
        `disk ${disk.name} has ${disk.sizeBytes} bytes: ${offsetBytes}+${lengthBytes} is no part of it`,
      );
    return disk;
  }
}

/** The DiskPart, then the data. */
class DiskPayload implements Payload {
  readonly #part: Uint8Array;
  readonly #data: Uint8Array;
  readonly #whole: (data: Uint8Array) => void;
  #at = 0;

  constructor(head: Buffer, data: Uint8Array, whole: (data: Uint8Array) => void) {
    this.#part = head.subarray(MEMORY_HEADER_BYTES);
    this.#data = data;
    this.#whole = whole;
  }

  get leftBytes(): number {
    return this.#part.length + this.#data.length - this.#at;
  }

  take(bytes: Uint8Array): void {
    const ofPart = bytes.subarray(0, Math.max(0, this.#part.length - this.#at));
    this.#part.set(ofPart, Math.min(this.#at, this.#part.length));
    const ofData = bytes.subarray(ofPart.length);
    if (ofData.length > 0) this.#data.set(ofData, this.#at + ofPart.length - this.#part.length);
    this.#at += bytes.length;
    if (this.leftBytes === 0) this.#whole(this.#data);
  }
}
