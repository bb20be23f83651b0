import { type DirtyBitmap, PAGE_SIZE } from "./dirty-bitmap.ts";
import type { Gpa } from "./gpa.ts";

/** A run of guest RAM: `sizeBytes` from `gpa` lie at `offsetBytes` of the one backing mapping. */
export interface MemoryRegion {
  readonly gpa: Gpa;
  readonly sizeBytes: number;
  readonly offsetBytes: number;
}

/** The backing of guest RAM: one mapping, seen by JavaScript as `buffer` and by the kernel at `hostAddress`. */
export interface MemoryBacking {
  readonly buffer: ArrayBuffer;
  /** User-space virtual address, below 2^47. */
  readonly hostAddress: number;
}

/** The guest named memory that is not RAM. The device that hit it fails the request or itself, nothing more. */
export class GuestMemoryError extends Error {
  readonly gpa: number;
  readonly lengthBytes: number;
  constructor(gpa: number, lengthBytes: number) {
    super(`guest memory 0x${gpa.toString(16)}+0x${lengthBytes.toString(16)} is not RAM`);
    this.name = "GuestMemoryError";
    this.gpa = gpa;
    this.lengthBytes = lengthBytes;
  }
}

/**
 * The only way to guest RAM. Every access is checked against the regions, and each write marks the dirty bitmap.
 * Numbers are little endian. A field that the guest may change is read once into a local and never looked at again.
 */
export class GuestMemory {
  readonly regions: readonly MemoryRegion[];
  readonly sizeBytes: number;
  readonly dirty: DirtyBitmap;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #u16: Uint16Array;
  readonly #hostAddress: number;
  /** RAM from address 0 on, which begins the backing: most of what is asked for lies there. */
  readonly #lowBytes: number;

  /** `regions` are disjoint and inside the backing; throws RangeError otherwise. */
  constructor(backing: MemoryBacking, regions: readonly MemoryRegion[], dirty: DirtyBitmap) {
    let sizeBytes = 0;
    for (const region of regions) {
      if (region.offsetBytes !== sizeBytes || region.sizeBytes <= 0 || region.sizeBytes % PAGE_SIZE !== 0)
        throw new RangeError("guest memory regions must follow each other in the backing, in whole pages");
      sizeBytes += region.sizeBytes;
    }
    if (sizeBytes > backing.buffer.byteLength) throw new RangeError("guest memory regions exceed their backing");
    this.regions = regions;
    this.sizeBytes = sizeBytes;
    this.dirty = dirty;
    this.#bytes = new Uint8Array(backing.buffer);
    this.#view = new DataView(backing.buffer);
    this.#u16 = new Uint16Array(backing.buffer);
    this.#hostAddress = backing.hostAddress;
    this.#lowBytes = regions[0]?.gpa === 0 ? regions[0].sizeBytes : 0;
  }

  /** True when all of `[gpa, gpa + lengthBytes)` is RAM of one region. An empty range needs a valid address too. */
  contains(gpa: Gpa, lengthBytes: number): boolean {
    return this.#find(gpa, lengthBytes) >= 0;
  }

  readU8(gpa: Gpa): number {
    return this.#view.getUint8(this.#offset(gpa, 1));
  }

  readU16(gpa: Gpa): number {
    return this.#view.getUint16(this.#offset(gpa, 2), true);
  }

  readU32(gpa: Gpa): number {
    return this.#view.getUint32(this.#offset(gpa, 4), true);
  }

  /** As many 32-bit words as `target` has, each read once: one check for all of them. */
  readWords(gpa: Gpa, target: Uint32Array): void {
    const offset = this.#offset(gpa, 4 * target.length);
    for (let i = 0; i < target.length; i++) target[i] = this.#view.getUint32(offset + 4 * i, true);
  }

  writeU8(gpa: Gpa, value: number): void {
    const offset = this.#writable(gpa, 1);
    this.#view.setUint8(offset, value);
  }

  writeU16(gpa: Gpa, value: number): void {
    const offset = this.#writable(gpa, 2);
    this.#view.setUint16(offset, value, true);
  }

  writeU32(gpa: Gpa, value: number): void {
    const offset = this.#writable(gpa, 4);
    this.#view.setUint32(offset, value, true);
  }

  /** Two fields that follow each other: one check for both. */
  writeU32Pair(gpa: Gpa, first: number, second: number): void {
    const offset = this.#writable(gpa, 8);
    this.#view.setUint32(offset, first, true);
    this.#view.setUint32(offset + 4, second, true);
  }

  /** `value` is a non-negative safe integer. */
  writeU64(gpa: Gpa, value: number): void {
    this.writeU32Pair(gpa, value, value / 2 ** 32);
  }

  /** Copies guest memory out into `target`. */
  read(gpa: Gpa, target: Uint8Array): void {
    const offset = this.#offset(gpa, target.length);
    target.set(this.#bytes.subarray(offset, offset + target.length));
  }

  /** Copies `lengthBytes`, a few dozen, to `target` at `offset`: without the views that `read` makes. */
  readShort(gpa: Gpa, target: Uint8Array, offset: number, lengthBytes: number): void {
    const from = this.#offset(gpa, lengthBytes);
    const bytes = this.#bytes;
    for (let i = 0; i < lengthBytes; i++) target[offset + i] = bytes[from + i] ?? 0;
  }

  /** Copies `source` into guest memory. */
  write(gpa: Gpa, source: Uint8Array): void {
    this.#bytes.set(source, this.#writable(gpa, source.length));
  }

  fill(gpa: Gpa, lengthBytes: number, value: number): void {
    const offset = this.#writable(gpa, lengthBytes);
    this.#bytes.fill(value, offset, offset + lengthBytes);
  }

  /**
   * 16-bit load that later reads are not moved before (a ring's index). `gpa` is even.
   * Atomics on shared mappings compile to plain x86 loads and locked stores, which gives both orders.
   */
  loadAcquireU16(gpa: Gpa): number {
    return Atomics.load(this.#u16, this.#offset(gpa, 2) / 2);
  }

  /** 16-bit store that is seen after all earlier writes and before any later load (a full fence on x86). */
  storeReleaseU16(gpa: Gpa, value: number): void {
    Atomics.store(this.#u16, this.#writable(gpa, 2) / 2, value);
  }

  /**
   * Where the kernel finds `[gpa, gpa + lengthBytes)`, for iovecs. The caller marks what the kernel writes there, with
   * `markDirty`, when it is done.
   */
  hostAddress(gpa: Gpa, lengthBytes: number): number {
    return this.#hostAddress + this.#offset(gpa, lengthBytes);
  }

  /** A checked view, for loaders at boot; the caller marks what it writes. Never kept by a device. */
  view(gpa: Gpa, lengthBytes: number): Uint8Array {
    const offset = this.#offset(gpa, lengthBytes);
    return this.#bytes.subarray(offset, offset + lengthBytes);
  }

  markDirty(gpa: Gpa, lengthBytes: number): void {
    this.#writable(gpa, lengthBytes);
  }

  #writable(gpa: Gpa, lengthBytes: number): number {
    const offset = this.#offset(gpa, lengthBytes);
    this.dirty.mark(offset, lengthBytes);
    return offset;
  }

  #offset(gpa: Gpa, lengthBytes: number): number {
    const offset = this.#find(gpa, lengthBytes);
    if (offset < 0) throw new GuestMemoryError(gpa, lengthBytes);
    return offset;
  }

  #find(gpa: number, lengthBytes: number): number {
    if (!(lengthBytes >= 0)) return -1;
    if (gpa >= 0 && gpa < this.#lowBytes && lengthBytes <= this.#lowBytes - gpa) return gpa;
    for (const region of this.regions) {
      const inside = gpa - region.gpa;
      if (inside >= 0 && inside < region.sizeBytes && lengthBytes <= region.sizeBytes - inside)
        return region.offsetBytes + inside;
    }
    return -1;
  }
}
