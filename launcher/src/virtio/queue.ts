import { type Gpa, gpaFromHalves } from "../memory/gpa.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { DescriptorChain } from "./descriptor-chain.ts";

/** Virtio 1.2, section 2.6: the most entries that a split ring can have. */
export const QUEUE_SIZE_LIMIT = 32768;

// Section 2.7.5, flags of a descriptor.
const DESCRIPTOR_SIZE = 16;
const DESC_F_NEXT = 1;
const DESC_F_WRITE = 2;
const DESC_F_INDIRECT = 4;

// Section 2.7.6 and 2.7.8: both rings start with flags and index, 16 bit each.
const RING_FLAGS = 0;
const RING_INDEX = 2;
const RING_ENTRIES = 4;
const AVAIL_ENTRY_SIZE = 2;
const USED_ENTRY_SIZE = 8;
const AVAIL_F_NO_INTERRUPT = 1;
const USED_F_NO_NOTIFY = 1;

const U32_LIMIT = 2 ** 32;

/** The driver broke the rules of the ring. The device it belongs to fails (NEEDS_RESET); nothing else does. */
export class VirtqueueError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "VirtqueueError";
  }
}

/** What the driver set up, and which ring features it took. */
export interface VirtqueueLayout {
  readonly size: number;
  readonly descriptorTable: Gpa;
  readonly availableRing: Gpa;
  readonly usedRing: Gpa;
  /**
   * The most descriptors of one chain, indirect ones included: the size that the device offered. A driver may make its
   * ring smaller and still send chains as long as the device's limits (a disk's seg_max) let it.
   */
  readonly chainLimit: number;
  /** VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIndex: boolean;
  /** VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
}

/** Where a queue stands; with the layout, all that a migration needs. */
export interface VirtqueuePosition {
  readonly nextAvailable: number;
  readonly nextUsed: number;
  readonly signalledUsed: number;
}

/**
 * The device's side of one split ring (section 2.7). Pure: it touches guest memory and nothing else.
 * Each field that the driver may change is read once into a local and checked there.
 */
export class Virtqueue {
  readonly layout: VirtqueueLayout;
  /** The driver is not asked to ring: somebody looks for what it makes available. */
  isWatched = false;
  readonly #memory: GuestMemory;
  readonly #sizeMask: number;
  readonly #chain: DescriptorChain;
  /** The words of the descriptor that is looked at. */
  readonly #descriptor = new Uint32Array(DESCRIPTOR_SIZE / 4);
  /** One byte a head: 1 from `pop` to `push`. */
  readonly #inFlight: Uint8Array;
  #inFlightCount = 0;
  // Free-running 16-bit indices, as in the rings.
  #nextAvailable = 0;
  /** The driver's, as it was when it was last looked at: what is before it can be taken without another look. */
  #seenAvailable = 0;
  #nextUsed = 0;
  /** The last `pop` found nothing. Where it found something, the device has not done yet, and pops again by itself. */
  #isDrained = false;
  /** The used index up to which the driver was interrupted, or need not be. */
  #signalledUsed = 0;

  /** Throws VirtqueueError where the rings are not whole, aligned and in RAM. */
  constructor(memory: GuestMemory, layout: VirtqueueLayout) {
    checkLayout(memory, layout);
    this.layout = layout;
    this.#memory = memory;
    this.#sizeMask = layout.size - 1;
    this.#chain = new DescriptorChain(layout.chainLimit);
    this.#inFlight = new Uint8Array(layout.size);
  }

  get size(): number {
    return this.layout.size;
  }

  /** Chains that were popped and not pushed yet. */
  get inFlightCount(): number {
    return this.#inFlightCount;
  }

  get position(): VirtqueuePosition {
    return { nextAvailable: this.#nextAvailable, nextUsed: this.#nextUsed, signalledUsed: this.#signalledUsed };
  }

  /**
   * Chains in flight are again the next to be popped. Of a queue whose chains are given back in the order in which they
   * were taken, so that those in flight are the last ones.
   */
  unpop(): void {
    this.#nextAvailable = (this.#nextAvailable - this.#inFlightCount) & 0xffff;
    this.#inFlight.fill(0);
    this.#inFlightCount = 0;
  }

  /** Goes on where another `Virtqueue` on the same rings stopped, with nothing in flight. */
  resumeAt(position: VirtqueuePosition): void {
    this.#nextAvailable = this.#seenAvailable = position.nextAvailable & 0xffff;
    this.#nextUsed = position.nextUsed & 0xffff;
    this.#signalledUsed = position.signalledUsed & 0xffff;
  }

  /**
   * Takes the next chain off the available ring; null when there is none. The object is the same in each call.
   * Throws VirtqueueError for whatever a correct driver does not do.
   */
  pop(): DescriptorChain | null {
    const { availableRing, size } = this.layout;
    if (this.#seenAvailable === this.#nextAvailable && !this.#lookForMore()) return null;
    const slot = this.#nextAvailable & this.#sizeMask;
    const head = this.#memory.readU16((availableRing + RING_ENTRIES + slot * AVAIL_ENTRY_SIZE) as Gpa);
    if (head >= size) throw new VirtqueueError(`head ${head} is outside a ring of ${size}`);
    if (this.#inFlight[head] !== 0) throw new VirtqueueError(`head ${head} is made available twice`);
    this.#chain.clear(head);
    this.#walk(this.layout.descriptorTable, size, head, false);
    this.#nextAvailable = (this.#nextAvailable + 1) & 0xffff;
    this.#inFlight[head] = 1;
    this.#inFlightCount++;
    return this.#chain;
  }

  /** False when the driver has made nothing available since. */
  #lookForMore(): boolean {
    const { size } = this.layout;
    const index = this.#loadAvailable();
    const pending = (index - this.#nextAvailable) & 0xffff;
    this.#isDrained = pending === 0;
    if (pending > size) throw new VirtqueueError(`available index ${index} is ${pending} ahead in a ring of ${size}`);
    this.#seenAvailable = index;
    return pending > 0;
  }

  /** Gives a chain back to the driver; `writtenBytes` of its writable part were filled. */
  push(head: number, writtenBytes: number): void {
    this.fill(head, writtenBytes);
    this.publish();
  }

  /** As push, but the driver sees it with the next `publish`: for chains that it must see together. */
  fill(head: number, writtenBytes: number): void {
    if (this.#inFlight[head] !== 1) throw new RangeError(`head ${head} is not in flight`);
    this.#inFlight[head] = 0;
    this.#inFlightCount--;
    const { usedRing } = this.layout;
    const entry = usedRing + RING_ENTRIES + (this.#nextUsed & this.#sizeMask) * USED_ENTRY_SIZE;
    this.#memory.writeU32Pair(entry as Gpa, head, writtenBytes);
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
  }

  /** Shows the driver what was filled. */
  publish(): void {
    this.#memory.storeReleaseU16((this.layout.usedRing + RING_INDEX) as Gpa, this.#nextUsed);
  }

  /**
   * True when the driver is to be interrupted for what was pushed since the last call (section 2.7.7). The store of the
   * used index was a full fence, so a driver that re-arms at this moment either sees the index or is seen here.
   */
  takeInterrupt(): boolean {
    const from = this.#signalledUsed;
    const to = this.#nextUsed;
    if (from === to) return false;
    this.#signalledUsed = to;
    const { availableRing, eventIndex, size } = this.layout;
    if (!eventIndex)
      return (this.#memory.loadAcquireU16((availableRing + RING_FLAGS) as Gpa) & AVAIL_F_NO_INTERRUPT) === 0;
    const event = this.#memory.loadAcquireU16((availableRing + RING_ENTRIES + size * AVAIL_ENTRY_SIZE) as Gpa);
    return crossesEvent(event, from, to);
  }

  /** Asks the driver not to ring while the queue is being worked on. */
  suppressNotifications(): void {
    // With EVENT_IDX the driver rings only when it passes avail_event, which stays behind meanwhile.
    if (!this.layout.eventIndex) this.#memory.writeU16((this.layout.usedRing + RING_FLAGS) as Gpa, USED_F_NO_NOTIFY);
  }

  /**
   * Asks the driver to ring for the next chain (section 2.7.10), unless the queue is watched. True when there is one
   * already, for which it may not have rung: the caller goes on popping.
   */
  enableNotifications(): boolean {
    if (!this.isWatched) this.#armDoorbell();
    return this.#hasMore();
  }

  /** True when the driver has made chains available since the device found the ring empty. */
  get hasNews(): boolean {
    return this.#isDrained && this.#hasMore();
  }

  /** The queue is no longer watched. True when there is a chain already, for which the driver may not have rung. */
  endWatch(): boolean {
    this.isWatched = false;
    // Else the device enables notifications when it has popped the rest.
    return this.#isDrained && this.enableNotifications();
  }

  #armDoorbell(): void {
    const { usedRing, eventIndex, size } = this.layout;
    // The store must be seen before the load that follows, or both sides would wait: a full fence.
    if (eventIndex) {
      const availEvent = usedRing + RING_ENTRIES + size * USED_ENTRY_SIZE;
      this.#memory.storeReleaseU16(availEvent as Gpa, this.#nextAvailable);
    } else this.#memory.storeReleaseU16((usedRing + RING_FLAGS) as Gpa, 0);
  }

  #hasMore(): boolean {
    return this.#loadAvailable() !== this.#nextAvailable;
  }

  #loadAvailable(): number {
    return this.#memory.loadAcquireU16((this.layout.availableRing + RING_INDEX) as Gpa);
  }

  /** Appends the chain that starts at descriptor `first` of a table of `tableSize` entries. */
  #walk(table: Gpa, tableSize: number, first: number, isIndirect: boolean): void {
    const memory = this.#memory;
    const words = this.#descriptor;
    let index = first;
    // A chain visits each entry at most once: more steps mean a loop.
    for (let steps = 0; steps < tableSize; steps++) {
      memory.readWords((table + index * DESCRIPTOR_SIZE) as Gpa, words);
      const address = gpaFromHalves(words[0] ?? 0, words[1] ?? 0);
      const lengthBytes = words[2] ?? 0;
      const flagsAndNext = words[3] ?? 0;
      const flags = flagsAndNext & 0xffff;
      if (address === null || !memory.contains(address, lengthBytes))
        throw new VirtqueueError(`descriptor ${index} names ${lengthBytes} bytes that are not RAM`);
      if ((flags & DESC_F_INDIRECT) !== 0) {
        if (isIndirect) throw new VirtqueueError("an indirect table inside an indirect table");
        this.#walkIndirect(address, lengthBytes, flags);
        return;
      }
      this.#append(address, lengthBytes, (flags & DESC_F_WRITE) !== 0);
      if ((flags & DESC_F_NEXT) === 0) return;
      index = flagsAndNext >>> 16;
      if (index >= tableSize) throw new VirtqueueError(`next descriptor ${index} is outside a table of ${tableSize}`);
    }
    throw new VirtqueueError(`the chain at descriptor ${first} is a loop`);
  }

  /** Section 2.7.5.3. */
  #walkIndirect(table: Gpa, lengthBytes: number, flags: number): void {
    if (!this.layout.indirect) throw new VirtqueueError("an indirect descriptor without VIRTIO_F_INDIRECT_DESC");
    if ((flags & DESC_F_NEXT) !== 0) throw new VirtqueueError("an indirect descriptor with a next one");
    const entries = lengthBytes / DESCRIPTOR_SIZE;
    if (lengthBytes === 0 || !Number.isInteger(entries))
      throw new VirtqueueError(`an indirect table of ${lengthBytes} bytes`);
    if (entries > this.layout.chainLimit) throw new VirtqueueError(`an indirect table of ${entries} descriptors`);
    this.#walk(table, entries, 0, true);
  }

  #append(address: Gpa, lengthBytes: number, writable: boolean): void {
    const chain = this.#chain;
    if (!writable && chain.writableCount > 0) throw new VirtqueueError("a readable descriptor after a writable one");
    if (chain.count >= chain.capacity) throw new VirtqueueError(`a chain of more than ${chain.capacity} descriptors`);
    if ((writable ? chain.writableBytes : chain.readableBytes) + lengthBytes >= U32_LIMIT)
      throw new VirtqueueError("a chain of 4 GiB or more");
    if (lengthBytes > 0) chain.append(address, lengthBytes, writable);
  }
}

/** Section 2.7.7.2 (vring_need_event): whether an index that goes from `from` to `to` passes `event`. */
export function crossesEvent(event: number, from: number, to: number): boolean {
  return ((to - event - 1) & 0xffff) < ((to - from) & 0xffff);
}

function checkLayout(memory: GuestMemory, layout: VirtqueueLayout): void {
  const { size, eventIndex } = layout;
  if (!Number.isInteger(size) || size < 1 || size > QUEUE_SIZE_LIMIT || (size & (size - 1)) !== 0)
    throw new VirtqueueError(`queue size ${size} is not a power of two from 1 to ${QUEUE_SIZE_LIMIT}`);
  const eventBytes = eventIndex ? 2 : 0;
  checkPart(memory, "descriptor table", layout.descriptorTable, 16, size * DESCRIPTOR_SIZE);
  checkPart(memory, "available ring", layout.availableRing, 2, RING_ENTRIES + size * AVAIL_ENTRY_SIZE + eventBytes);
  checkPart(memory, "used ring", layout.usedRing, 4, RING_ENTRIES + size * USED_ENTRY_SIZE + eventBytes);
}

/** Alignments of section 2.7. */
function checkPart(memory: GuestMemory, name: string, at: Gpa, alignment: number, lengthBytes: number): void {
  if (at % alignment !== 0) throw new VirtqueueError(`the ${name} at 0x${at.toString(16)} is not ${alignment}-aligned`);
  if (!memory.contains(at, lengthBytes))
    throw new VirtqueueError(`the ${name} at 0x${at.toString(16)} is not whole in RAM`);
}
