import { gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { VirtioDevice } from "../device.ts";
import { type Buffer, type SplitRingDriver, testMemory, type UsedEntry } from "./split-ring-driver.ts";
import { VirtioPciDriver } from "./virtio-pci-driver.ts";

/** Where the test driver keeps headers and status bytes, one of each a slot. */
const HEADERS = 0x20000;
const STATUSES = 0x21000;
export const DATA = 0x22000;
const SLOTS = 64;
const UNSET = 0xff;

/** A driver of virtio-blk, for tests. */
export class BlockDriver {
  readonly pci: VirtioPciDriver;
  rings: readonly SplitRingDriver[];
  #slot = 0;

  constructor(device: VirtioDevice, memory: GuestMemory = testMemory(), features?: ReadonlySet<number>) {
    this.pci = new VirtioPciDriver(device, memory);
    this.rings = this.pci.start(features);
  }

  get memory(): GuestMemory {
    return this.pci.memory;
  }

  ring(queue = 0): SplitRingDriver {
    const ring = this.rings[queue];
    if (!ring) throw new Error(`test driver: no queue ${queue}`);
    return ring;
  }

  /** Writes a request header; answers its address. */
  header(type: number, sector: number): number {
    this.#slot = (this.#slot + 1) % SLOTS;
    const at = HEADERS + 16 * this.#slot;
    this.memory.writeU32(gpa(at), type);
    this.memory.writeU32(gpa(at + 4), 0);
    this.memory.writeU32(gpa(at + 8), sector % 2 ** 32);
    this.memory.writeU32(gpa(at + 12), Math.floor(sector / 2 ** 32));
    this.memory.writeU8(gpa(STATUSES + this.#slot), UNSET);
    return at;
  }

  /** Makes a request of header, data and status available; answers where its status will be. */
  submit(type: number, sector: number, data: readonly Buffer[] = [], queue = 0): number {
    const header = this.header(type, sector);
    const status = STATUSES + this.#slot;
    this.ring(queue).add([
      { address: header, lengthBytes: 16 },
      ...data,
      { address: status, lengthBytes: 1, writable: true },
    ]);
    return status;
  }

  /** Runs a request that ends at once: its status, 255 when there is none, and what came back in the used ring. */
  run(type: number, sector: number, data: readonly Buffer[] = []): { status: number; used: UsedEntry[] } {
    const status = this.submit(type, sector, data);
    this.pci.kick(0);
    return { status: this.status(status), used: this.ring().takeUsed() };
  }

  status(address: number): number {
    return this.memory.readU8(gpa(address));
  }

  /** A DISCARD or WRITE_ZEROES range at DATA. */
  range(sector: number, sectors: number, flags = 0): Buffer {
    this.memory.writeU32(gpa(DATA), sector % 2 ** 32);
    this.memory.writeU32(gpa(DATA + 4), Math.floor(sector / 2 ** 32));
    this.memory.writeU32(gpa(DATA + 8), sectors);
    this.memory.writeU32(gpa(DATA + 12), flags);
    return { address: DATA, lengthBytes: 16 };
  }
}
