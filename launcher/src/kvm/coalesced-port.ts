import { kvmIoctl } from "./kvm-ioctl.ts";
import { structs } from "./layouts.ts";
import { newStruct, setU64 } from "./struct-view.ts";

const PAGE_BYTES = 4096;
const ring = structs.kvm_coalesced_mmio_ring;
const entry = structs.kvm_coalesced_mmio;
const zone = structs.kvm_coalesced_mmio_zone;
const MAX_ENTRIES = Math.floor((PAGE_BYTES - ring.sizeBytes) / entry.sizeBytes);
const FIRST = ring.at.first / 4;
const LAST = ring.at.last / 4;

/** Byte writes to one port, kept by KVM for later instead of leaving the guest; not while it is off. */
export interface CoalescedWrites {
  readonly isOn: boolean;
  /** Writes from now on are kept, until the ring is full: then one leaves the guest, behind those that were kept. */
  start(): void;
  /** Writes leave the guest again. What was kept is still to be taken. */
  stop(): void;
  /** What was kept since the last call, oldest first. Valid until the next call. */
  take(): Uint8Array;
}

/**
 * A zone of KVM_REGISTER_COALESCED_MMIO that covers one port (Documentation/virt/kvm/api.rst, 4.116). A machine has one
 * ring, so there is one such port in a machine. An element of a string instruction that finds the ring full is lost
 * where it is not the first: a guest that never asks whether the transmitter has room loses there on real ports too.
 */
export class CoalescedPort implements CoalescedWrites {
  readonly #vmFd: number;
  readonly #zone = newStruct("kvm_coalesced_mmio_zone");
  /** Read index of user space, write index of the kernel. */
  readonly #indexes: Int32Array;
  readonly #ring: Uint8Array;
  readonly #taken = new Uint8Array(MAX_ENTRIES);
  #isOn = false;

  /** `ringPage` is the page of a vCPU's mapping that KVM_CAP_COALESCED_MMIO tells of. */
  constructor(vmFd: number, ringPage: Uint8Array, port: number) {
    this.#vmFd = vmFd;
    this.#ring = ringPage;
    this.#indexes = new Int32Array(ringPage.buffer, ringPage.byteOffset, 2);
    setU64(this.#zone, zone.at.addr, port);
    this.#zone.setUint32(zone.at.size, 1, true);
    this.#zone.setUint32(zone.at.pio, 1, true);
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  /** Throws SysError. */
  start(): void {
    if (this.#isOn) return;
    kvmIoctl(this.#vmFd, "KVM_REGISTER_COALESCED_MMIO", this.#zone);
    this.#isOn = true;
  }

  /** Throws SysError. */
  stop(): void {
    if (!this.#isOn) return;
    kvmIoctl(this.#vmFd, "KVM_UNREGISTER_COALESCED_MMIO", this.#zone);
    this.#isOn = false;
  }

  take(): Uint8Array {
    const last = Atomics.load(this.#indexes, LAST);
    let at = Atomics.load(this.#indexes, FIRST);
    let count = 0;
    for (; at !== last; at = (at + 1) % MAX_ENTRIES)
      this.#taken[count++] = this.#ring[ring.sizeBytes + at * entry.sizeBytes + entry.at.data] ?? 0;
    if (count > 0) Atomics.store(this.#indexes, FIRST, at);
    return this.#taken.subarray(0, count);
  }
}
