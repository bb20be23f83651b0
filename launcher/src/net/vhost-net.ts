import type { OwnedFd } from "../sys/fd.ts";
import { ioctl, ioctlNumber } from "../sys/ioctl.ts";

// <linux/vhost.h>
const VHOST = 0xaf;
const VHOST_GET_FEATURES = ioctlNumber.read(VHOST, 0x00, 8);
const VHOST_SET_FEATURES = ioctlNumber.write(VHOST, 0x00, 8);
const VHOST_SET_OWNER = ioctlNumber.none(VHOST, 0x01);
const VHOST_SET_MEM_TABLE = ioctlNumber.write(VHOST, 0x03, 8);
const VHOST_SET_VRING_NUM = ioctlNumber.write(VHOST, 0x10, 8);
const VHOST_SET_VRING_ADDR = ioctlNumber.write(VHOST, 0x11, 40);
const VHOST_SET_VRING_BASE = ioctlNumber.write(VHOST, 0x12, 8);
const VHOST_GET_VRING_BASE = ioctlNumber.readWrite(VHOST, 0x12, 8);
const VHOST_SET_VRING_KICK = ioctlNumber.write(VHOST, 0x20, 8);
const VHOST_SET_VRING_CALL = ioctlNumber.write(VHOST, 0x21, 8);
const VHOST_NET_SET_BACKEND = ioctlNumber.write(VHOST, 0x30, 8);
const NO_BACKEND = -1;

const MEMORY_HEADER_BYTES = 8;
const MEMORY_REGION_BYTES = 32;

export interface VhostRegion {
  readonly gpa: number;
  readonly sizeBytes: number;
  readonly hostAddress: number;
}

/** A ring as the kernel finds it: addresses of this process. */
export interface VhostRing {
  readonly size: number;
  readonly descriptorTable: number;
  readonly availableRing: number;
  readonly usedRing: number;
  /** The available index to go on from. */
  readonly nextAvailable: number;
}

/** One pair of queues in the kernel (vhost-net): ring 0 receives, ring 1 transmits. */
export class VhostNet implements Disposable {
  readonly #fd: OwnedFd;

  /** `fd` is of /dev/vhost-net, fresh, and this object's from now on. Throws SysError. */
  constructor(fd: OwnedFd) {
    this.#fd = fd;
    ioctl(fd.fd, "VHOST_SET_OWNER", VHOST_SET_OWNER);
  }

  /** Those of `wanted` that the kernel has. */
  setFeatures(wanted: Iterable<number>): void {
    const offered = new BigUint64Array(new ArrayBuffer(8));
    ioctl(this.#fd.fd, "VHOST_GET_FEATURES", VHOST_GET_FEATURES, offered);
    let bits = 0n;
    for (const bit of wanted) bits |= 1n << BigInt(bit);
    const taken = new BigUint64Array([bits & (offered[0] ?? 0n)]);
    ioctl(this.#fd.fd, "VHOST_SET_FEATURES", VHOST_SET_FEATURES, taken);
  }

  setMemory(regions: readonly VhostRegion[]): void {
    const table = new DataView(new ArrayBuffer(MEMORY_HEADER_BYTES + regions.length * MEMORY_REGION_BYTES));
    table.setUint32(0, regions.length, true);
    regions.forEach(({ gpa, sizeBytes, hostAddress }, i) => {
      const at = MEMORY_HEADER_BYTES + i * MEMORY_REGION_BYTES;
      table.setBigUint64(at, BigInt(gpa), true);
      table.setBigUint64(at + 8, BigInt(sizeBytes), true);
      table.setBigUint64(at + 16, BigInt(hostAddress), true);
    });
    ioctl(this.#fd.fd, "VHOST_SET_MEM_TABLE", VHOST_SET_MEM_TABLE, table);
  }

  setRing(index: number, ring: VhostRing): void {
    this.#setState("VHOST_SET_VRING_NUM", VHOST_SET_VRING_NUM, index, ring.size);
    this.#setState("VHOST_SET_VRING_BASE", VHOST_SET_VRING_BASE, index, ring.nextAvailable);
    const addresses = new DataView(new ArrayBuffer(40));
    addresses.setUint32(0, index, true);
    addresses.setBigUint64(8, BigInt(ring.descriptorTable), true);
    addresses.setBigUint64(16, BigInt(ring.usedRing), true);
    addresses.setBigUint64(24, BigInt(ring.availableRing), true);
    ioctl(this.#fd.fd, "VHOST_SET_VRING_ADDR", VHOST_SET_VRING_ADDR, addresses);
  }

  /** Eventfds: the driver's doorbell, and what is signalled when the driver wants an interrupt. */
  setEvents(index: number, kickFd: number, callFd: number): void {
    this.#setState("VHOST_SET_VRING_KICK", VHOST_SET_VRING_KICK, index, kickFd);
    this.#setState("VHOST_SET_VRING_CALL", VHOST_SET_VRING_CALL, index, callFd);
  }

  /** The ring carries frames of the TAP from now on; with null no more, and the kernel uses the ring no more. */
  setBackend(index: number, tapFd: number | null): void {
    this.#setState("VHOST_NET_SET_BACKEND", VHOST_NET_SET_BACKEND, index, tapFd ?? NO_BACKEND);
  }

  /** Of a ring without a backend: the available index to go on from. */
  nextAvailable(index: number): number {
    const state = new Int32Array([index, 0]);
    ioctl(this.#fd.fd, "VHOST_GET_VRING_BASE", VHOST_GET_VRING_BASE, state);
    return (state[1] ?? 0) & 0xffff;
  }

  /** struct vhost_vring_state and vhost_vring_file are two 32-bit numbers each. */
  #setState(name: string, request: number, index: number, value: number): void {
    ioctl(this.#fd.fd, name, request, new Int32Array([index, value]));
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}
