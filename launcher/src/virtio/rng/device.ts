import { randomFillSync } from "node:crypto";
import {
  type FeatureBits,
  readConfigBytes,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
  type VirtioDriver,
} from "../device.ts";

const QUEUE_SIZE = 64;
/** More is not given a request, whatever its buffers: a driver takes what it gets and asks again. */
export const RNG_REQUEST_LIMIT_BYTES = 64 * 1024;
const POOL_BYTES = 4096;
/** Requests in one turn of the event loop: half a MiB of randomness at most. */
const REQUESTS_A_TURN = 8;

/** Entropy device (virtio 1.2, section 5.4). */
export class RngDevice implements VirtioDevice {
  readonly name = "virtio-rng";
  readonly deviceType = 4;
  readonly pciClass = 0x00ff00;
  readonly features: FeatureBits = new Set([VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC]);
  readonly queueSizes = [QUEUE_SIZE];
  readonly #fillRandom: (target: Uint8Array) => void;
  readonly #pool = new Uint8Array(POOL_BYTES);
  #poolUsed = POOL_BYTES;
  #driver: VirtioDriver | null = null;

  /** `fillRandom` is the kernel's generator unless a test says otherwise. */
  constructor(fillRandom: (target: Uint8Array) => void = randomFillSync) {
    this.#fillRandom = fillRandom;
  }

  readConfig(offset: number, data: Uint8Array): void {
    readConfigBytes(new Uint8Array(0), offset, data);
  }

  writeConfig(): void {}

  activate(driver: VirtioDriver): void {
    this.#driver = driver;
  }

  /** It works in `serve` alone. */
  hold(): undefined {}

  reset(): undefined {
    this.#driver = null;
  }

  serve(queueIndex: number): boolean {
    const driver = this.#driver;
    const queue = driver?.queue(queueIndex);
    if (!driver || !queue) return false;
    let hasMore = true;
    for (let served = 0; served < REQUESTS_A_TURN; served++) {
      const chain = queue.pop();
      if (chain === null) {
        hasMore = queue.enableNotifications();
        if (!hasMore) break;
        continue;
      }
      const lengthBytes = Math.min(chain.writableBytes, RNG_REQUEST_LIMIT_BYTES);
      for (let done = 0; done < lengthBytes; ) done += chain.write(driver.memory, done, this.#take(lengthBytes - done));
      queue.push(chain.head, lengthBytes);
    }
    driver.signalUsed(queueIndex);
    return hasMore;
  }

  /** Up to `lengthBytes` of fresh randomness, at least one; the view is good until the next call. */
  #take(lengthBytes: number): Uint8Array {
    if (this.#poolUsed === POOL_BYTES) {
      this.#fillRandom(this.#pool);
      this.#poolUsed = 0;
    }
    const from = this.#poolUsed;
    this.#poolUsed = Math.min(POOL_BYTES, from + lengthBytes);
    return this.#pool.subarray(from, this.#poolUsed);
  }
}
