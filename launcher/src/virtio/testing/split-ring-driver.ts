import { DirtyBitmap } from "../../memory/dirty-bitmap.ts";
import { type Gpa, gpa } from "../../memory/gpa.ts";
import { GuestMemory, type MemoryBacking } from "../../memory/guest-memory.ts";
import type { VirtqueueLayout } from "../queue.ts";

/** Where the memory of `testMemory` claims to be. */
export const TEST_HOST_ADDRESS = 0x7000_0000_0000;
const TEST_HOLE_BYTES = 0x10000;

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

/** Guest RAM without a guest: two regions with a hole between them, as around 3 GiB of a real machine. */
export function testMemory(lowBytes = 0x40000, highBytes = 0x10000, backing?: MemoryBacking): GuestMemory {
  const sizeBytes = lowBytes + highBytes;
  const regions = [
    { gpa: gpa(0), sizeBytes: lowBytes, offsetBytes: 0 },
    { gpa: gpa(lowBytes + TEST_HOLE_BYTES), sizeBytes: highBytes, offsetBytes: lowBytes },
  ];
  const made = backing ?? { buffer: new ArrayBuffer(sizeBytes), hostAddress: TEST_HOST_ADDRESS };
  return new GuestMemory(made, regions, new DirtyBitmap(sizeBytes));
}

export interface Buffer {
  readonly address: number;
  readonly lengthBytes: number;
  readonly writable?: boolean;
}

export interface UsedEntry {
  readonly head: number;
  readonly writtenBytes: number;
}

export interface RingOptions {
  /** Where the rings lie, one after the other. */
  readonly base?: number;
  readonly eventIndex?: boolean;
  readonly indirect?: boolean;
}

/** The driver's side of a split ring, for tests: a correct one, with means to break the rules. */
export class SplitRingDriver {
  readonly layout: VirtqueueLayout;
  readonly memory: GuestMemory;
  readonly #free: number[];
  /** Descriptors of each chain that is with the device, by its head. */
  readonly #chains = new Map<number, number[]>();
  #availableIndex = 0;
  #usedSeen = 0;
  #kickedAt = 0;

  constructor(
    memory: GuestMemory,
    size: number,
    { base = 0x1000, eventIndex = false, indirect = false }: RingOptions = {},
  ) {
    this.memory = memory;
    const available = base + 16 * size;
    const used = Math.ceil((available + 6 + 2 * size) / 4) * 4;
    this.layout = {
      size,
      descriptorTable: gpa(base),
      availableRing: gpa(available),
      usedRing: gpa(used),
      chainLimit: size,
      eventIndex,
      indirect,
    };
    this.#free = Array.from({ length: size }, (_, i) => i);
    memory.fill(this.layout.descriptorTable, used + 6 + 8 * size - base, 0);
  }

  get freeDescriptors(): number {
    return this.#free.length;
  }

  /** Both rings as if `index` chains had gone through before. */
  startAt(index: number): void {
    this.#availableIndex = index & 0xffff;
    this.#usedSeen = index & 0xffff;
    this.#kickedAt = index & 0xffff;
    this.memory.writeU16((this.layout.availableRing + 2) as Gpa, this.#availableIndex);
    this.memory.writeU16((this.layout.usedRing + 2) as Gpa, this.#usedSeen);
  }

  writeDescriptor(index: number, address: number, lengthBytes: number, flags: number, next = 0): void {
    writeDescriptorAt(this.memory, this.layout.descriptorTable + 16 * index, address, lengthBytes, flags, next);
  }

  /** Makes a chain of `buffers` available; answers its head. */
  add(buffers: readonly Buffer[]): number {
    const descriptors = this.#free.splice(0, buffers.length);
    if (descriptors.length < buffers.length) throw new Error("test driver: the ring is full");
    buffers.forEach(({ address, lengthBytes, writable }, i) => {
      const next = descriptors[i + 1];
      const flags = (writable ? WRITE : 0) | (next === undefined ? 0 : NEXT);
      this.writeDescriptor(descriptors[i] ?? 0, address, lengthBytes, flags, next);
    });
    const head = descriptors[0] ?? 0;
    this.#chains.set(head, descriptors);
    this.makeAvailable(head);
    return head;
  }

  /** As `add`, by a table at `table`. */
  addIndirect(table: number, buffers: readonly Buffer[]): number {
    buffers.forEach(({ address, lengthBytes, writable }, i) => {
      const last = i === buffers.length - 1;
      const flags = (writable ? WRITE : 0) | (last ? 0 : NEXT);
      writeDescriptorAt(this.memory, table + 16 * i, address, lengthBytes, flags, last ? 0 : i + 1);
    });
    const head = this.#free.shift();
    if (head === undefined) throw new Error("test driver: the ring is full");
    this.writeDescriptor(head, table, 16 * buffers.length, INDIRECT);
    this.#chains.set(head, [head]);
    this.makeAvailable(head);
    return head;
  }

  /** Puts any number into the available ring, as a head. */
  makeAvailable(head: number): void {
    const slot = this.#availableIndex & (this.layout.size - 1);
    this.memory.writeU16((this.layout.availableRing + 4 + 2 * slot) as Gpa, head);
    this.setAvailableIndex(this.#availableIndex + 1);
  }

  setAvailableIndex(index: number): void {
    this.#availableIndex = index & 0xffff;
    this.memory.storeReleaseU16((this.layout.availableRing + 2) as Gpa, this.#availableIndex);
  }

  setAvailableFlags(flags: number): void {
    this.memory.writeU16(this.layout.availableRing, flags);
  }

  get usedFlags(): number {
    return this.memory.readU16(this.layout.usedRing);
  }

  /** With EVENT_IDX: interrupt when the used index passes `index`. */
  setUsedEvent(index: number): void {
    this.memory.writeU16((this.layout.availableRing + 4 + 2 * this.layout.size) as Gpa, index & 0xffff);
  }

  get availEvent(): number {
    return this.memory.readU16((this.layout.usedRing + 4 + 8 * this.layout.size) as Gpa);
  }

  /** Whether a driver that published up to now would ring, by the rules of section 2.7.10. */
  takeKick(): boolean {
    const from = this.#kickedAt;
    this.#kickedAt = this.#availableIndex;
    if (from === this.#availableIndex) return false;
    if (!this.layout.eventIndex) return (this.usedFlags & 1) === 0;
    const passed = (this.#availableIndex - from) & 0xffff;
    return ((this.#availableIndex - this.availEvent - 1) & 0xffff) < passed;
  }

  /** What the device gave back since the last call; the descriptors are free again. */
  takeUsed(): UsedEntry[] {
    const index = this.memory.loadAcquireU16((this.layout.usedRing + 2) as Gpa);
    const entries: UsedEntry[] = [];
    for (; this.#usedSeen !== index; this.#usedSeen = (this.#usedSeen + 1) & 0xffff) {
      const entry = this.layout.usedRing + 4 + 8 * (this.#usedSeen & (this.layout.size - 1));
      const head = this.memory.readU32(entry as Gpa);
      entries.push({ head, writtenBytes: this.memory.readU32((entry + 4) as Gpa) });
      this.#free.push(...(this.#chains.get(head) ?? []));
      this.#chains.delete(head);
    }
    return entries;
  }
}

export function writeDescriptorAt(
  memory: GuestMemory,
  at: number,
  address: number,
  lengthBytes: number,
  flags: number,
  next: number,
): void {
  memory.writeU32(at as Gpa, address % 2 ** 32);
  memory.writeU32((at + 4) as Gpa, Math.floor(address / 2 ** 32));
  memory.writeU32((at + 8) as Gpa, lengthBytes);
  memory.writeU16((at + 12) as Gpa, flags);
  memory.writeU16((at + 14) as Gpa, next);
}
