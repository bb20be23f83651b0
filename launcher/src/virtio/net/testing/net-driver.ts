import { type Gpa, gpa } from "../../../memory/gpa.ts";
import { check } from "../../../sys/errors.ts";
import { OwnedFd, setNonBlocking } from "../../../sys/fd.ts";
import { readPacket, writePacket } from "../../../sys/frame-io.ts";
import { libc } from "../../../sys/libc.ts";
import { Mapping } from "../../../sys/mapping.ts";
import type { Poller } from "../../../sys/poll-source.ts";
import { until } from "../../../testing/until.ts";
import { testMemory } from "../../testing/split-ring-driver.ts";
import { VirtioPciDriver } from "../../testing/virtio-pci-driver.ts";
import type { FrameQueue } from "../data-path.ts";
import type { NetDevice } from "../device.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const LOW_BYTES = 0x100000;
const HIGH_BYTES = 0x10000;
/** Where the driver's buffers begin, beyond its rings. */
const BUFFERS = 0x20000;
const DATAGRAM_BYTES_MAX = 70_000;
export const HEADER_BYTES = 12;

/** A queue of a TAP that is a pair of datagram sockets: one message is one frame, with its header. */
export class FakeTap implements FrameQueue, Disposable {
  readonly offloads: number[] = [];
  isAttached = true;
  hasCarrier = true;
  readonly #near: OwnedFd;
  readonly #far: OwnedFd;

  constructor() {
    const fds = new Int32Array(new ArrayBuffer(8));
    check("socketpair", libc().socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
    [this.#near, this.#far] = [new OwnedFd(fds[0] ?? -1), new OwnedFd(fds[1] ?? -1)];
    for (const { fd } of [this.#near, this.#far]) setNonBlocking(fd);
  }

  get fd(): number {
    return this.#near.fd;
  }

  setOffloads(flags: number): void {
    this.offloads.push(flags);
  }
  setAttached(isAttached: boolean): void {
    this.isAttached = isAttached;
  }
  setCarrier(isUp: boolean): void {
    this.hasCarrier = isUp;
  }

  /** The network sends a frame, behind a header. */
  send(frame: Uint8Array, header: Uint8Array = new Uint8Array(HEADER_BYTES)): void {
    const result = writePacket(this.#far.fd, Buffer.concat([header, frame]));
    if (result < 0) throw new Error(`test TAP: errno ${-result}`);
  }

  /** What came out since, headers included. */
  received(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    const target = new Uint8Array(new ArrayBuffer(DATAGRAM_BYTES_MAX));
    for (let length = readPacket(this.#far.fd, target); length > 0; length = readPacket(this.#far.fd, target))
      frames.push(target.slice(0, length));
    return frames;
  }

  [Symbol.dispose](): void {
    this.#near[Symbol.dispose]();
    this.#far[Symbol.dispose]();
  }
}

export interface SendOptions {
  readonly header?: Uint8Array;
  readonly parts?: number;
  readonly queue?: number;
}

/** A driver of a network device in memory that the kernel can read and write. */
export class NetDriver implements Disposable {
  readonly pci: VirtioPciDriver;
  readonly #mapping = Mapping.anonymous(LOW_BYTES + HIGH_BYTES);
  #next = BUFFERS;

  constructor(device: NetDevice, poller?: Poller) {
    this.pci = new VirtioPciDriver(device, testMemory(LOW_BYTES, HIGH_BYTES, this.#mapping), poller);
  }

  /** Features of the device but those in `without`. */
  start(without: readonly number[] = []): void {
    const features = this.pci.offeredFeatures();
    for (const bit of without) features.delete(bit);
    this.pci.start(features);
  }

  ring(index: number) {
    const ring = this.pci.rings[index];
    if (!ring) throw new Error(`test driver: no ring ${index}`);
    return ring;
  }

  /** Room that nothing else uses. */
  allocate(lengthBytes: number): Gpa {
    const at = this.#next;
    this.#next += Math.ceil(lengthBytes / 16) * 16;
    if (this.#next > LOW_BYTES) throw new Error("test driver: no room");
    return gpa(at);
  }

  /** Sends `frame` behind `header`, in descriptors of `parts` bytes where given. */
  send(frame: Uint8Array, options: SendOptions = {}): void {
    this.put(frame, options);
    this.pci.kick(options.queue ?? 1);
  }

  /** As `send`, but the device is not told yet. Answers where header and frame are. */
  put(
    frame: Uint8Array,
    { header = new Uint8Array(HEADER_BYTES), parts = Number.MAX_SAFE_INTEGER, queue = 1 }: SendOptions = {},
  ): Gpa {
    const bytes = Buffer.concat([header, frame]);
    const address = this.allocate(bytes.length);
    this.pci.memory.write(address, bytes);
    const buffers = [];
    for (let at = 0; at < bytes.length; at += parts)
      buffers.push({ address: address + at, lengthBytes: Math.min(parts, bytes.length - at) });
    this.ring(queue).add(buffers);
    return address;
  }

  /** Makes receive buffers available, one chain each; answers their addresses. */
  offer(sizes: readonly number[], queue = 0): Gpa[] {
    const addresses = sizes.map((lengthBytes) => {
      const address = this.allocate(lengthBytes);
      this.ring(queue).add([{ address, lengthBytes, writable: true }]);
      return address;
    });
    this.pci.kick(queue);
    return addresses;
  }

  bytes(address: Gpa, lengthBytes: number): Uint8Array {
    return this.pci.memory.view(address, lengthBytes).slice();
  }

  /** Waits until `count` receive buffers were used. */
  async used(count: number, queue = 0) {
    const entries: { head: number; writtenBytes: number }[] = [];
    await until(() => {
      entries.push(...this.ring(queue).takeUsed());
      return entries.length >= count;
    });
    return entries;
  }

  /** Runs a command of the control queue; answers its status. */
  control(kind: number, command: number, data: Uint8Array, queue = this.pci.rings.length - 1): number {
    const request = this.allocate(2 + data.length);
    const answer = this.allocate(1);
    this.pci.memory.write(request, Buffer.concat([Uint8Array.of(kind, command), data]));
    this.pci.memory.writeU8(answer, 0xff);
    this.ring(queue).add([
      { address: request, lengthBytes: 2 + data.length },
      { address: answer, lengthBytes: 1, writable: true },
    ]);
    this.pci.kick(queue);
    this.ring(queue).takeUsed();
    return this.pci.memory.readU8(answer);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}
