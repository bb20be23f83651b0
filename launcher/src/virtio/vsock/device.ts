import type { Socket } from "node:net";
import {
  type FeatureBits,
  readConfigBytes,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
  type VirtioDriver,
} from "../device.ts";
import { type Virtqueue, VirtqueueError } from "../queue.ts";
import { Connections } from "./connections.ts";
import { PacketHeader } from "./packet-header.ts";
import * as protocol from "./protocol.ts";
import type { VsockUse } from "./vsock-use.ts";

const QUEUE_SIZE = 128;
const EVENT_QUEUE_SIZE = 16;
const CONFIG_BYTES = 8;
/** What goes one way in one turn of the event loop. */
const TURN_BYTES = 256 * 1024;
/** A packet counts at least so much, so that empty ones do not go on for ever. */
const PACKET_COST_BYTES = 1024;

/**
 * After a restore the guest's connections lead nowhere (section 5.10.6.7):
 *   owed -> told: the guest has the event; it closes what it has, and gives the buffer back for the next event
 *   told -> none: now connections of the other life can begin
 */
type TransportReset = "none" | "owed" | "told";

export interface VsockOptions {
  /** From FIRST_GUEST_CID on. */
  readonly guestCid: number;
  /** Connects to what serves a port of the host; "connect" or "close" says how it went. */
  readonly dial: (port: number) => Socket;
}

/** Socket device (virtio 1.2, section 5.10): streams between ports of the guest and unix sockets of the host. */
export class VsockDevice implements VirtioDevice {
  readonly name = "virtio-vsock";
  readonly deviceType = protocol.DEVICE_TYPE_VSOCK;
  readonly pciClass = 0x078000;
  readonly features: FeatureBits = new Set([
    VIRTIO_F_VERSION_1,
    VIRTIO_F_EVENT_IDX,
    VIRTIO_F_INDIRECT_DESC,
    protocol.VIRTIO_VSOCK_F_STREAM,
  ]);
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, EVENT_QUEUE_SIZE];
  readonly #config = new Uint8Array(CONFIG_BYTES);
  readonly #connections: Connections;
  readonly #header = new PacketHeader();
  #driver: VirtioDriver | null = null;
  #reset: TransportReset = "none";
  /** Packets of the guest wait until it has taken the refusals of earlier ones. */
  #isTransmitBlocked = false;

  constructor({ guestCid, dial }: VsockOptions) {
    new DataView(this.#config.buffer).setUint32(0, guestCid, true);
    this.#connections = new Connections({
      guestCid,
      dial,
      onPacket: () => this.#driver?.serveSoon(protocol.RECEIVE_QUEUE),
    });
  }

  get use(): Readonly<VsockUse> {
    return this.#connections.use;
  }

  /** From a client of the host to a port of the guest. The socket is closed where the guest does not take it. */
  connect(socket: Socket, guestPort: number): void {
    if (this.#driver?.isLive) this.#connections.connect(socket, guestPort);
    else socket.destroy();
  }

  readConfig(offset: number, data: Uint8Array): void {
    readConfigBytes(this.#config, offset, data);
  }

  writeConfig(): void {}

  activate(driver: VirtioDriver): void {
    this.#driver = driver;
  }

  /** It touches guest memory in `serve` alone; connections wait, and go on where the guest goes on here. */
  hold(): undefined {}

  /** Connections stay behind, with the sockets of the other process. */
  restoreState(): void {
    if (this.#driver?.queue(protocol.EVENT_QUEUE)) this.#reset = "owed";
  }

  reset(): undefined {
    this.#driver = null;
    this.#reset = "none";
    this.#isTransmitBlocked = false;
    this.#connections.closeAll();
  }

  serve(queueIndex: number): boolean {
    const driver = this.#driver;
    const queue = driver?.queue(queueIndex);
    if (!driver || !queue) return false;
    try {
      if (queueIndex === protocol.TRANSMIT_QUEUE) return this.#transmit(driver, queue);
      if (queueIndex === protocol.EVENT_QUEUE) return this.#tellEvents(driver, queue);
      return this.#receive(driver, queue);
    } catch (error) {
      // The device fails: whoever is connected learns of it now.
      this.#connections.closeAll();
      throw error;
    }
  }

  /** Packets from the guest. */
  #transmit(driver: VirtioDriver, queue: Virtqueue): boolean {
    let leftBytes = TURN_BYTES;
    let hasMore = true;
    while (hasMore && leftBytes > 0 && !this.#connections.isBlocked) {
      const chain = queue.pop();
      if (chain === null) {
        hasMore = queue.enableNotifications();
        continue;
      }
      leftBytes -= PACKET_COST_BYTES + chain.readableBytes;
      if (chain.read(driver.memory, 0, this.#header.bytes) === protocol.HEADER_BYTES)
        this.#connections.receive(this.#header, chain, driver.memory);
      else this.#connections.use.droppedPackets++;
      queue.push(chain.head, 0);
    }
    driver.signalUsed(protocol.TRANSMIT_QUEUE);
    this.#isTransmitBlocked = this.#connections.isBlocked;
    return hasMore && !this.#isTransmitBlocked;
  }

  /** Packets to the guest. */
  #receive(driver: VirtioDriver, queue: Virtqueue): boolean {
    if (this.#reset !== "none") return false;
    let leftBytes = TURN_BYTES;
    while (leftBytes > 0 && this.#connections.hasPacket) {
      const chain = queue.pop();
      if (chain === null) {
        if (queue.enableNotifications()) continue;
        break;
      }
      const roomBytes = chain.writableBytes - protocol.HEADER_BYTES;
      if (roomBytes < 1) throw new VirtqueueError(`a receive buffer of ${chain.writableBytes} bytes`);
      const payload = this.#connections.fill(this.#header, roomBytes);
      chain.write(driver.memory, 0, this.#header.bytes);
      if (payload) chain.write(driver.memory, protocol.HEADER_BYTES, payload);
      const lengthBytes = protocol.HEADER_BYTES + (payload?.length ?? 0);
      queue.push(chain.head, lengthBytes);
      leftBytes -= PACKET_COST_BYTES + lengthBytes;
    }
    driver.signalUsed(protocol.RECEIVE_QUEUE);
    if (this.#isTransmitBlocked && !this.#connections.isBlocked) driver.serveSoon(protocol.TRANSMIT_QUEUE);
    return leftBytes <= 0;
  }

  #tellEvents(driver: VirtioDriver, queue: Virtqueue): boolean {
    if (this.#reset === "owed") this.#tellReset(driver, queue);
    if (this.#reset === "told" && queue.enableNotifications()) {
      this.#reset = "none";
      driver.serveSoon(protocol.RECEIVE_QUEUE);
    }
    return false;
  }

  /** All buffers that there are say the same, so that the next one shows that the guest has seen them. */
  #tellReset(driver: VirtioDriver, queue: Virtqueue): void {
    const event = new Uint8Array(protocol.EVENT_BYTES);
    new DataView(event.buffer).setUint32(0, protocol.VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, true);
    for (let told = 0; told < queue.size; told++) {
      const chain = queue.pop();
      if (chain === null) break;
      queue.push(chain.head, chain.write(driver.memory, 0, event));
      this.#reset = "told";
    }
    driver.signalUsed(protocol.EVENT_QUEUE);
    // Buffers that come while there is none ring.
    if (this.#reset === "owed" && queue.enableNotifications()) driver.serveSoon(protocol.EVENT_QUEUE);
  }
}
