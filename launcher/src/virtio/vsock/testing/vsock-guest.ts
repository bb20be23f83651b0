import { gpa } from "../../../memory/gpa.ts";
import { until } from "../../../testing/until.ts";
import type { UsedEntry } from "../../testing/split-ring-driver.ts";
import { VirtioPciDriver } from "../../testing/virtio-pci-driver.ts";
import type { VsockDevice } from "../device.ts";
import { PacketHeader } from "../packet-header.ts";
import * as protocol from "../protocol.ts";

const RECEIVE_BUFFERS = 0x8000;
const TRANSMIT_BUFFER = 0x30000;
const EVENT_BUFFERS = 0x6000;
const HEADER = protocol.HEADER_BYTES;

export interface Packet {
  readonly operation: number;
  readonly hostPort: number;
  readonly guestPort: number;
  readonly flags: number;
  readonly bufferBytes: number;
  readonly forwardedBytes: number;
  readonly payload: Buffer;
}

export interface SentPacket {
  readonly operation: number;
  readonly hostPort: number;
  readonly guestPort: number;
  readonly payload?: Uint8Array;
  readonly flags?: number;
  readonly type?: number;
  readonly sourceCid?: number;
  readonly destinationCid?: number;
  /** What the header says of the payload's length, where that is a lie. */
  readonly lengthBytes?: number;
  readonly bufferBytes?: number;
  readonly forwardedBytes?: number;
}

export interface GuestOptions {
  readonly receiveBuffers?: number;
  readonly receiveBytes?: number;
  /** Its own window. */
  readonly bufferBytes?: number;
}

/** The guest's driver of a vsock device, for tests: it says what it is told to. */
export class VsockGuest {
  static readonly CID = 3;
  readonly driver: VirtioPciDriver;
  /** All that came, in order. */
  readonly packets: Packet[] = [];
  /** Their ids. */
  readonly events: number[] = [];
  readonly #addresses: Map<number, number> = new Map();
  readonly #eventAddresses: Map<number, number> = new Map();
  readonly #options: Required<GuestOptions>;
  readonly #usedSeen: number[] = [];
  /** By default it takes each packet at once, and gives the buffer back. */
  isDeaf = false;

  /** With `from` it is that one, on another device that is not restored yet. */
  constructor(device: VsockDevice, options: GuestOptions = {}, from?: VsockGuest) {
    this.#options = { receiveBuffers: 16, receiveBytes: 4096, bufferBytes: 65536, ...options };
    this.driver = new VirtioPciDriver(device, from?.driver.memory);
    this.driver.onInterrupt = () => this.#take();
    if (from) {
      this.driver.rings.push(...from.driver.rings);
      this.#addresses = from.#addresses;
      this.#eventAddresses = from.#eventAddresses;
      this.#usedSeen.push(...from.#usedSeen);
    } else this.start();
  }

  start(): void {
    this.#usedSeen.length = 0;
    this.driver.start();
    const { receiveBuffers, receiveBytes } = this.#options;
    for (let i = 0; i < receiveBuffers; i++) this.#offer(RECEIVE_BUFFERS + i * receiveBytes);
    this.driver.kick(protocol.RECEIVE_QUEUE);
    for (let i = 0; i < 2; i++) this.offerEvent(EVENT_BUFFERS + 4 * i);
  }

  offerEvent(address: number): void {
    this.driver.memory.writeU32(gpa(address), 0xffff);
    const head = this.#ring(protocol.EVENT_QUEUE).add([{ address, lengthBytes: 4, writable: true }]);
    this.#eventAddresses.set(head, address);
    this.driver.kick(protocol.EVENT_QUEUE);
  }

  send(packet: SentPacket): void {
    const { memory } = this.driver;
    const payload = packet.payload ?? new Uint8Array(0);
    const header = new DataView(new ArrayBuffer(HEADER));
    const at = protocol.HeaderOffset;
    header.setBigUint64(at.sourceCid, BigInt(packet.sourceCid ?? VsockGuest.CID), true);
    header.setBigUint64(at.destinationCid, BigInt(packet.destinationCid ?? protocol.HOST_CID), true);
    header.setUint32(at.sourcePort, packet.guestPort, true);
    header.setUint32(at.destinationPort, packet.hostPort, true);
    header.setUint32(at.lengthBytes, packet.lengthBytes ?? payload.length, true);
    header.setUint16(at.type, packet.type ?? protocol.VIRTIO_VSOCK_TYPE_STREAM, true);
    header.setUint16(at.operation, packet.operation, true);
    header.setUint32(at.flags, packet.flags ?? 0, true);
    header.setUint32(at.bufferBytes, packet.bufferBytes ?? this.#options.bufferBytes, true);
    header.setUint32(at.forwardedBytes, packet.forwardedBytes ?? 0, true);
    memory.write(gpa(TRANSMIT_BUFFER), new Uint8Array(header.buffer));
    memory.write(gpa(TRANSMIT_BUFFER + HEADER), payload);
    // Header and bytes in one buffer and the rest in another: any split will do.
    const first = HEADER + Math.min(payload.length, 10);
    const rest = HEADER + payload.length - first;
    const buffers = [{ address: TRANSMIT_BUFFER, lengthBytes: first }];
    if (rest > 0) buffers.push({ address: TRANSMIT_BUFFER + first, lengthBytes: rest });
    this.sendChain(buffers);
  }

  sendChain(buffers: readonly { readonly address: number; readonly lengthBytes: number }[]): void {
    const ring = this.#ring(protocol.TRANSMIT_QUEUE);
    ring.add(buffers);
    this.driver.kick(protocol.TRANSMIT_QUEUE);
    ring.takeUsed();
  }

  /** Chains that the device has not given back. */
  get unsentCount(): number {
    const ring = this.#ring(protocol.TRANSMIT_QUEUE);
    ring.takeUsed();
    return ring.layout.size - ring.freeDescriptors;
  }

  /** Resolves with the first packet of that kind that was not asked for before. */
  async packet(operation: number): Promise<Packet> {
    await until(() => this.#indexOf(operation) >= 0);
    const [found] = this.packets.splice(this.#indexOf(operation), 1);
    if (!found) throw new Error("there is one");
    return found;
  }

  /** Takes what came meanwhile. */
  listen(): void {
    this.isDeaf = false;
    this.#take();
  }

  #indexOf(operation: number): number {
    return this.packets.findIndex((packet) => packet.operation === operation);
  }

  #take(): void {
    if (this.isDeaf) return;
    for (const { head, writtenBytes } of this.#takeUsed(protocol.RECEIVE_QUEUE)) {
      const address = this.#addresses.get(head) ?? 0;
      this.packets.push(this.#read(address, writtenBytes));
      this.#offer(address);
    }
    for (const { head } of this.driver.rings[protocol.EVENT_QUEUE]?.takeUsed() ?? [])
      this.events.push(this.driver.memory.readU32(gpa(this.#eventAddresses.get(head) ?? 0)));
    this.driver.kick(protocol.RECEIVE_QUEUE);
  }

  /** Asks for an interrupt with the next one. */
  #takeUsed(queueIndex: number): UsedEntry[] {
    const ring = this.driver.rings[queueIndex];
    const used = ring?.takeUsed() ?? [];
    const seen = (this.#usedSeen[queueIndex] ?? 0) + used.length;
    this.#usedSeen[queueIndex] = seen;
    ring?.setUsedEvent(seen);
    return used;
  }

  #read(address: number, writtenBytes: number): Packet {
    const header = new PacketHeader();
    const { memory } = this.driver;
    memory.read(gpa(address), header.bytes);
    const payload = Buffer.from(memory.view(gpa(address + HEADER), writtenBytes - HEADER));
    if (header.sourceCid !== protocol.HOST_CID || header.destinationCid !== VsockGuest.CID)
      throw new Error(`a packet from ${header.sourceCid} to ${header.destinationCid}`);
    if (header.lengthBytes !== payload.length) throw new Error("a packet whose length is wrong");
    const { operation, flags, bufferBytes, forwardedBytes } = header;
    const [hostPort, guestPort] = [header.sourcePort, header.destinationPort];
    return { operation, hostPort, guestPort, flags, bufferBytes, forwardedBytes, payload };
  }

  #offer(address: number): void {
    const buffer = { address, lengthBytes: this.#options.receiveBytes, writable: true };
    this.#addresses.set(this.#ring(protocol.RECEIVE_QUEUE).add([buffer]), address);
  }

  #ring(index: number) {
    const ring = this.driver.rings[index];
    if (!ring) throw new Error(`no ring ${index}`);
    return ring;
  }
}
