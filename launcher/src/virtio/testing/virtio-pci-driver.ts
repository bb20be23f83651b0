import type { Doorbells } from "../../kvm/interrupts.ts";
import { AddressSpace } from "../../memory/address-space.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { PciRoot } from "../../pci/pci-root.ts";
import { writePacket } from "../../sys/frame-io.ts";
import type { Poller } from "../../sys/poll-source.ts";
import type { VirtioDevice } from "../device.ts";
import { VirtioPciDevice } from "../transport/virtio-pci-device.ts";
import { SplitRingDriver, testMemory } from "./split-ring-driver.ts";

const ECAM = 0xe000_0000;
const WINDOW = { start: 0xc000_0000, sizeBytes: 0x100_0000 };
/** Queue rings of the test driver lie here, 4 KiB a queue. */
const RINGS = 0x1000;
const RING_STRIDE = 0x1000;

/** Doorbells as KVM would ring them, in a fake address space. */
export class FakeDoorbells implements Doorbells {
  readonly assigned = new Map<number, () => void>();

  assign(_space: "mmio" | "pio", address: number, _widthBytes: number, ring: () => void): Disposable {
    if (this.assigned.has(address)) throw new Error(`doorbell ${address.toString(16)} is there already`);
    this.assigned.set(address, ring);
    return { [Symbol.dispose]: () => void this.assigned.delete(address) };
  }

  assignTo(space: "mmio" | "pio", address: number, widthBytes: number, eventFd: number): Disposable {
    const one = new BigUint64Array([1n]);
    return this.assign(space, address, widthBytes, () => writePacket(eventFd, new Uint8Array(one.buffer)));
  }
}

/** A machine of one virtio-pci device, and a driver that finds it by its capabilities, for tests. */
export class VirtioPciDriver {
  readonly memory: GuestMemory;
  readonly transport: VirtioPciDevice;
  readonly doorbells = new FakeDoorbells();
  readonly mmio = new AddressSpace("mmio");
  readonly root: PciRoot;
  /** Vectors of the messages so far: the driver programs vector v to send data v. */
  readonly interrupts: number[] = [];
  onInterrupt: () => void = () => {};
  readonly faults: Error[] = [];
  readonly rings: SplitRingDriver[] = [];
  readonly slot: number;
  /** Address of each structure by cfg_type, and of the MSI-X table as 0. */
  readonly structures = new Map<number, number>();

  constructor(device: VirtioDevice, memory: GuestMemory = testMemory(), poller?: Poller) {
    this.memory = memory;
    this.transport = new VirtioPciDevice(device, {
      memory,
      msi: {
        signalMsi: (_low, _high, data) => {
          this.interrupts.push(data);
          this.onInterrupt();
        },
      },
      doorbells: this.doorbells,
      ...(poller && { poller }),
      onFault: (_name, error) => this.faults.push(error),
    });
    this.root = new PciRoot(this.mmio, [WINDOW]);
    this.mmio.add(ECAM, 0x100000, this.root.ecam);
    this.slot = this.root.add(this.transport);
    this.config(4, 2, 6);
    this.#findStructures();
    this.#enableMsix();
  }

  /** Reads (or with `value` writes) 1, 2 or 4 bytes of configuration space. */
  config(register: number, widthBytes: number, value?: number): number {
    return this.access(ECAM + this.slot * 0x8000 + register, widthBytes, value);
  }

  access(address: number, widthBytes: number, value?: number): number {
    const data = new Uint8Array(widthBytes);
    if (value === undefined) this.mmio.read(address, data);
    else {
      for (let i = 0; i < widthBytes; i++) data[i] = Math.floor(value / 2 ** (8 * i)) % 256;
      this.mmio.write(address, data);
    }
    return data.reduceRight((sum, byte) => sum * 256 + byte, 0);
  }

  common(offset: number, widthBytes: number, value?: number): number {
    return this.access((this.structures.get(1) ?? 0) + offset, widthBytes, value);
  }

  deviceConfig(offset: number, widthBytes: number, value?: number): number {
    return this.access((this.structures.get(4) ?? 0) + offset, widthBytes, value);
  }

  get status(): number {
    return this.common(0x14, 1);
  }

  set status(value: number) {
    this.common(0x14, 1, value);
  }

  offeredFeatures(): Set<number> {
    const bits = new Set<number>();
    for (const select of [0, 1]) {
      this.common(0, 4, select);
      const word = this.common(4, 4);
      for (let bit = 0; bit < 32; bit++) if (Math.floor(word / 2 ** bit) % 2 === 1) bits.add(32 * select + bit);
    }
    return bits;
  }

  /** Up to FEATURES_OK, with all features offered or those given; answers whether the device agreed. */
  negotiate(features: ReadonlySet<number> = this.offeredFeatures()): boolean {
    this.status = 1;
    this.status = 3;
    for (const select of [0, 1]) {
      this.common(8, 4, select);
      let word = 0;
      for (const bit of features) if (Math.floor(bit / 32) === select) word += 2 ** (bit % 32);
      this.common(0x0c, 4, word);
    }
    this.status = 0x0b;
    return (this.status & 8) !== 0;
  }

  /** Makes a ring for queue `index`, tells the device, and gives it vector `index` + 1. */
  setUpQueue(index: number, size?: number, features: ReadonlySet<number> = this.offeredFeatures()): SplitRingDriver {
    this.common(0x16, 2, index);
    const entries = size ?? Math.min(64, this.common(0x18, 2));
    const ring = new SplitRingDriver(this.memory, entries, {
      base: RINGS + index * RING_STRIDE,
      eventIndex: features.has(29),
      indirect: features.has(28),
    });
    this.common(0x18, 2, entries);
    this.common(0x1a, 2, index + 1);
    const { descriptorTable, availableRing, usedRing } = ring.layout;
    [descriptorTable, availableRing, usedRing].forEach((address, i) => {
      this.common(0x20 + 8 * i, 4, address % 2 ** 32);
      this.common(0x24 + 8 * i, 4, Math.floor(address / 2 ** 32));
    });
    this.common(0x1c, 2, 1);
    this.rings[index] = ring;
    return ring;
  }

  /** From reset to DRIVER_OK with all queues; answers the rings. */
  start(features: ReadonlySet<number> = this.offeredFeatures(), queueSize?: number): SplitRingDriver[] {
    if (!this.negotiate(features)) throw new Error("test driver: the device refused the features");
    this.common(0x10, 2, 0);
    const queues = this.common(0x12, 2);
    for (let i = 0; i < queues; i++) this.setUpQueue(i, queueSize, features);
    this.status = 0x0f;
    return this.rings;
  }

  doorbellAddress(index: number): number {
    return (this.structures.get(2) ?? 0) + 4 * index;
  }

  /** Rings as the guest does: by the ioeventfd if there is one, else by an exit. */
  kick(index: number): void {
    const address = this.doorbellAddress(index);
    const ring = this.doorbells.assigned.get(address);
    if (ring) ring();
    else this.access(address, 2, index);
  }

  #findStructures(): void {
    const bar = (this.config(0x10, 4) & ~0xf) >>> 0;
    for (let at = this.config(0x34, 1); at !== 0; at = this.config(at + 1, 1)) {
      if (this.config(at, 1) === 9) this.structures.set(this.config(at + 3, 1), bar + this.config(at + 8, 4));
      else if (this.config(at, 1) === 0x11) this.structures.set(0, bar + (this.config(at + 4, 4) & ~7));
    }
  }

  #enableMsix(): void {
    const table = this.structures.get(0) ?? 0;
    for (let at = this.config(0x34, 1); at !== 0; at = this.config(at + 1, 1)) {
      if (this.config(at, 1) !== 0x11) continue;
      for (let vector = 0; vector <= (this.config(at + 2, 2) & 0x7ff); vector++) {
        this.access(table + 16 * vector, 4, 0xfee00000);
        this.access(table + 16 * vector + 8, 4, vector);
        this.access(table + 16 * vector + 12, 4, 0);
      }
      this.config(at + 2, 2, 0x8000);
    }
  }
}
