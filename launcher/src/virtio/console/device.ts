import { decode, encode, record, u16 } from "../../codec/codec.ts";
import type { CharacterBackend } from "../../legacy/character-backend.ts";
import {
  type FeatureBits,
  readConfigBytes,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
  type VirtioDriver,
} from "../device.ts";
import type { Virtqueue } from "../queue.ts";

// Virtio 1.2, section 5.3.
const RECEIVE_QUEUE = 0;
const TRANSMIT_QUEUE = 1;
const QUEUE_SIZE = 64;
const VIRTIO_CONSOLE_F_SIZE = 0;
/** Columns and rows, 16 bit each, then fields of features that are not offered. */
const CONFIG_SIZE = 4;

/** The terminal's size. */
const stateCodec = record({ columns: u16, rows: u16 });

const COPY_BYTES = 4096;
/** What a guest may print in one turn of the event loop. */
const TURN_BYTES = 256 * 1024;

/**
 * Console device with one port. Output is passed on as it comes; input goes into the buffers that the driver has ready,
 * and what finds none stays with the backend until there are some again.
 */
export class ConsoleDevice implements VirtioDevice {
  readonly name = "virtio-console";
  readonly deviceType = 3;
  readonly pciClass = 0x078000;
  readonly features: FeatureBits = new Set([
    VIRTIO_F_VERSION_1,
    VIRTIO_F_EVENT_IDX,
    VIRTIO_F_INDIRECT_DESC,
    VIRTIO_CONSOLE_F_SIZE,
  ]);
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE];
  readonly #backend: CharacterBackend;
  readonly #config = new DataView(new ArrayBuffer(CONFIG_SIZE));
  readonly #copy = new Uint8Array(COPY_BYTES);
  readonly #drainListeners: (() => void)[] = [];
  #driver: VirtioDriver | null = null;
  /** Input was turned away since the driver last gave buffers. */
  #isFull = true;
  #isHeld = false;

  constructor(backend: CharacterBackend) {
    this.#backend = backend;
    backend.connect({
      input: (bytes) => this.#input(bytes),
      onDrain: (listener) => this.#drainListeners.push(listener),
    });
  }

  /** Tells the guest the size of the terminal, in characters (VIRTIO_CONSOLE_F_SIZE). */
  resize(columns: number, rows: number): void {
    this.#config.setUint16(0, columns, true);
    this.#config.setUint16(2, rows, true);
    if (this.#driver?.features.has(VIRTIO_CONSOLE_F_SIZE)) this.#driver.signalConfigChange();
  }

  readConfig(offset: number, data: Uint8Array): void {
    readConfigBytes(new Uint8Array(this.#config.buffer), offset, data);
  }

  writeConfig(): void {}

  activate(driver: VirtioDriver, isHeld = false): void {
    this.#driver = driver;
    this.#isHeld = isHeld;
  }

  hold(): undefined {
    this.#isFull = true;
    this.#isHeld = true;
  }

  saveState(): Uint8Array {
    return encode(stateCodec, { columns: this.#config.getUint16(0, true), rows: this.#config.getUint16(2, true) });
  }

  restoreState(state: Uint8Array, version: number): void {
    const { columns, rows } = decode(stateCodec, state, version);
    this.#config.setUint16(0, columns, true);
    this.#config.setUint16(2, rows, true);
  }

  reset(): undefined {
    this.#driver = null;
    this.#isFull = true;
    this.#isHeld = false;
  }

  serve(queueIndex: number): boolean {
    const driver = this.#driver;
    const queue = driver?.queue(queueIndex);
    if (!driver || !queue) return false;
    this.#isHeld = false;
    if (queueIndex === TRANSMIT_QUEUE) return this.#transmit(driver, queue);
    if (queueIndex === RECEIVE_QUEUE && this.#isFull) {
      this.#isFull = false;
      for (const listener of this.#drainListeners) listener();
    }
    return false;
  }

  #transmit(driver: VirtioDriver, queue: Virtqueue): boolean {
    let left = TURN_BYTES;
    let hasMore = true;
    // A chain counts at least one byte, so that empty ones do not go on for ever.
    while (hasMore && left > 0) {
      const chain = queue.pop();
      if (chain === null) {
        hasMore = queue.enableNotifications();
        continue;
      }
      for (let done = 0; done < Math.min(chain.readableBytes, TURN_BYTES); ) {
        const count = chain.read(driver.memory, done, this.#copy);
        this.#backend.output(this.#copy.subarray(0, count));
        done += count;
      }
      left -= Math.max(1, chain.readableBytes);
      queue.push(chain.head, 0);
    }
    driver.signalUsed(TRANSMIT_QUEUE);
    return hasMore;
  }

  /** Answers how many bytes went into the driver's buffers. */
  #input(bytes: Uint8Array): number {
    const driver = this.#driver;
    const queue = driver?.queue(RECEIVE_QUEUE);
    if (!driver?.isLive || !queue || this.#isHeld) return 0;
    let taken = 0;
    try {
      while (taken < bytes.length) {
        const chain = queue.pop();
        if (chain === null) {
          if (queue.enableNotifications()) continue;
          this.#isFull = true;
          break;
        }
        const written = chain.write(driver.memory, 0, bytes.subarray(taken));
        queue.push(chain.head, written);
        taken += written;
      }
      driver.signalUsed(RECEIVE_QUEUE);
    } catch (error) {
      driver.fail(error);
    }
    return taken;
  }
}
