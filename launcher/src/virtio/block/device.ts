import { decode, encode } from "../../codec/codec.ts";
import { StateRefused } from "../../codec/state-refused.ts";
import { SECTOR_BYTES, type Storage } from "../../storage/storage.ts";
import type { DescriptorChain } from "../descriptor-chain.ts";
import {
  type FeatureBits,
  readConfigBytes,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
  type VirtioDriver,
} from "../device.ts";
import { DiskUse } from "./disk-use.ts";
import * as protocol from "./protocol.ts";
import { BlockRequest, type RequestOwner, type RequestTarget } from "./request.ts";
import { blockStateCodec } from "./state.ts";

const QUEUE_SIZE = 128;
/** Data segments of a request: a chain is as long as the queue, and header and status need one each. */
const SEGMENT_LIMIT = QUEUE_SIZE - 2;
/** Requests of one disk at the same time, over all queues; each has a page of iovecs. The rest waits in its ring. */
const IN_FLIGHT_LIMIT = 64;
/** Of one DISCARD or WRITE_ZEROES: 1 GiB. */
const RANGE_LIMIT_SECTORS = 2 ** 21;
const WRITEBACK = 1;

export interface BlockDeviceOptions {
  /** The serial that the guest reads (GET_ID), at most 20 bytes of ASCII. */
  readonly name: string;
  readonly storage: Storage;
  /** 1 to 64. */
  readonly queues: number;
  /** Told of each request that failed in the storage, after which the guest sees an I/O error. `errno` says why. */
  readonly onIoError?: (errno: number) => void;
}

/** A disk (virtio 1.2, section 5.2). */
export class BlockDevice implements VirtioDevice, RequestOwner {
  readonly name: string;
  readonly deviceType = protocol.DEVICE_TYPE_BLOCK;
  readonly pciClass = 0x018000;
  readonly features: FeatureBits;
  readonly queueSizes: readonly number[];
  readonly use = new DiskUse();
  /** A driver took the device at least once. */
  hadDriver = false;
  readonly #storage: Storage;
  readonly #onIoError: (errno: number) => void;
  readonly #config: Uint8Array;
  readonly #id: Uint8Array;
  readonly #spare: BlockRequest[] = [];
  #requestCount = 0;
  #inFlight = 0;
  /** Queues that have chains for which there was no request. */
  readonly #starved = new Set<number>();
  #driver: VirtioDriver | null = null;
  #target: RequestTarget;
  /** True while `serve` runs: one interrupt at its end is enough for all that ends meanwhile. */
  #isServing = false;
  /** Told once when nothing is with the storage. */
  #onRest: (() => void)[] = [];

  constructor(options: BlockDeviceOptions) {
    const { storage, queues } = options;
    this.name = `virtio-blk ${options.name}`;
    this.#storage = storage;
    this.#onIoError = options.onIoError ?? (() => {});
    this.queueSizes = new Array<number>(queues).fill(QUEUE_SIZE);
    this.features = offeredFeatures(storage, queues);
    this.#config = initialConfig(storage, queues);
    this.#id = new Uint8Array(protocol.ID_BYTES);
    new TextEncoder().encodeInto(options.name, this.#id);
    this.#target = this.#makeTarget();
  }

  /** Requests that are with the storage. */
  get inFlightCount(): number {
    return this.#inFlight;
  }

  /** Requests made so far, each with a page of iovecs: as many as were ever needed at the same time. */
  get requestCount(): number {
    return this.#requestCount;
  }

  /** The storage has grown: the driver is told, and may use all of it. */
  sizeChanged(): void {
    putCapacity(new DataView(this.#config.buffer), this.#storage);
    this.#target = this.#makeTarget();
    this.#driver?.signalConfigChange();
  }

  isPolled(): boolean {
    return true;
  }

  readConfig(offset: number, data: Uint8Array): void {
    readConfigBytes(this.#config, offset, data);
  }

  /** Only the cache mode can be written (VIRTIO_BLK_F_CONFIG_WCE). */
  writeConfig(offset: number, data: Uint8Array): void {
    const mode = data[0] ?? 0;
    if (offset !== protocol.ConfigOffset.writeback || data.length !== 1 || mode > WRITEBACK) return;
    if (!this.#driver?.features.has(protocol.VIRTIO_BLK_F_CONFIG_WCE)) return;
    this.#config[offset] = mode;
    this.#target = this.#makeTarget();
  }

  activate(driver: VirtioDriver): void {
    this.#driver = driver;
    this.hadDriver = true;
    // Section 5.2.5.2: who can set the mode and not flush starts with the safe one.
    const canFlush = driver.features.has(protocol.VIRTIO_BLK_F_FLUSH);
    if (!canFlush && driver.features.has(protocol.VIRTIO_BLK_F_CONFIG_WCE))
      this.#config[protocol.ConfigOffset.writeback] = 0;
    this.#target = this.#makeTarget();
  }

  /** Waits for all that is with the storage: what has waited for its turn starts at once. */
  hold(): Promise<void> | undefined {
    this.#starved.clear();
    if (this.#inFlight === 0) return undefined;
    return new Promise((resolve) => {
      this.#onRest.push(resolve);
      this.#storage.hurry?.();
    });
  }

  saveState(): Uint8Array {
    return encode(blockStateCodec, {
      capacityBytes: this.#storage.sizeBytes,
      writeback: this.#config[protocol.ConfigOffset.writeback] === WRITEBACK,
    });
  }

  restoreState(state: Uint8Array, version: number): void {
    const { capacityBytes, writeback } = decode(blockStateCodec, state, version);
    if (capacityBytes !== this.#storage.sizeBytes)
      throw new StateRefused(
        this.name,
        `it had ${capacityBytes} bytes, and its storage has ${this.#storage.sizeBytes} here`,
      );
    this.#config[protocol.ConfigOffset.writeback] = writeback ? WRITEBACK : 0;
    this.#target = this.#makeTarget();
  }

  reset(): Promise<void> | undefined {
    this.#driver = null;
    this.#starved.clear();
    this.#config[protocol.ConfigOffset.writeback] = WRITEBACK;
    this.#storage.abandon?.();
    if (this.#inFlight === 0) return undefined;
    return new Promise((resolve) => {
      this.#onRest.push(resolve);
    });
  }

  serve(queueIndex: number): boolean {
    const driver = this.#driver;
    const queue = driver?.queue(queueIndex);
    if (!driver || !queue) return false;
    this.#isServing = true;
    let hasMore = true;
    try {
      queue.suppressNotifications();
      // As many as the ring has: a guest that adds while requests end at once must not keep the event loop.
      for (let served = 0; hasMore && served < queue.size; served++) {
        if (this.#inFlight === IN_FLIGHT_LIMIT) {
          this.#starved.add(queueIndex);
          hasMore = false;
          break;
        }
        const chain = queue.pop();
        if (chain === null) hasMore = queue.enableNotifications();
        else this.#start(driver, queueIndex, chain);
      }
    } finally {
      this.#isServing = false;
    }
    driver.signalUsed(queueIndex);
    return hasMore;
  }

  requestEnded(request: BlockRequest, errno: number): void {
    const { driver, queueIndex, head, writtenBytes } = request;
    request.driver = null;
    this.#spare.push(request);
    this.#inFlight--;
    if (driver?.isLive) {
      this.use.count(request.type, request.dataBytes, performance.now() - request.startedMs, errno !== 0);
      if (errno !== 0) this.#onIoError(errno);
      try {
        driver.queue(queueIndex)?.push(head, writtenBytes);
        if (!this.#isServing) driver.signalUsed(queueIndex);
        if (this.#starved.size > 0) this.#serveStarved(driver);
      } catch (error) {
        driver.fail(error);
      }
    }
    if (this.#inFlight > 0) return;
    const waiting = this.#onRest;
    this.#onRest = [];
    for (const tell of waiting) tell();
  }

  #serveStarved(driver: VirtioDriver): void {
    for (const index of this.#starved) driver.serveSoon(index);
    this.#starved.clear();
  }

  #start(driver: VirtioDriver, queueIndex: number, chain: DescriptorChain): void {
    // Before a request is taken for it: what a driver does wrong must not cost one.
    BlockRequest.check(chain);
    const request = this.#spare.pop() ?? this.#makeRequest();
    this.#inFlight++;
    try {
      request.start(driver, queueIndex, chain, this.#target);
    } catch (error) {
      // A defect. Not used again: a storage that failed in an unknown way may still have its iovecs.
      request.driver = null;
      this.#inFlight--;
      throw error;
    }
  }

  #makeRequest(): BlockRequest {
    this.#requestCount++;
    return new BlockRequest(this);
  }

  #makeTarget(): RequestTarget {
    return {
      storage: this.#storage,
      id: this.#id,
      capacitySectors: Math.floor(this.#storage.sizeBytes / SECTOR_BYTES),
      maxRangeSectors: RANGE_LIMIT_SECTORS,
      writeThrough: !this.#isWriteback(),
    };
  }

  /** Section 5.2.6.2: the driver's mode where it can set one; else writeback if it can flush. */
  #isWriteback(): boolean {
    const features = this.#driver?.features;
    if (features?.has(protocol.VIRTIO_BLK_F_CONFIG_WCE))
      return this.#config[protocol.ConfigOffset.writeback] === WRITEBACK;
    return features?.has(protocol.VIRTIO_BLK_F_FLUSH) ?? true;
  }
}

function offeredFeatures(storage: Storage, queues: number): FeatureBits {
  const features = new Set([
    VIRTIO_F_VERSION_1,
    VIRTIO_F_EVENT_IDX,
    VIRTIO_F_INDIRECT_DESC,
    protocol.VIRTIO_BLK_F_SEG_MAX,
    protocol.VIRTIO_BLK_F_BLK_SIZE,
    protocol.VIRTIO_BLK_F_FLUSH,
    protocol.VIRTIO_BLK_F_TOPOLOGY,
    protocol.VIRTIO_BLK_F_CONFIG_WCE,
  ]);
  if (queues > 1) features.add(protocol.VIRTIO_BLK_F_MQ);
  if (storage.readOnly) features.add(protocol.VIRTIO_BLK_F_RO);
  else features.add(protocol.VIRTIO_BLK_F_DISCARD).add(protocol.VIRTIO_BLK_F_WRITE_ZEROES);
  return features;
}

function initialConfig(storage: Storage, queues: number): Uint8Array {
  const { ConfigOffset } = protocol;
  const config = new DataView(new ArrayBuffer(protocol.CONFIG_SIZE));
  const blocksPerPhysical = storage.physicalBlockBytes / storage.logicalBlockBytes;
  putCapacity(config, storage);
  config.setUint32(ConfigOffset.segMax, SEGMENT_LIMIT, true);
  config.setUint32(ConfigOffset.blkSize, storage.logicalBlockBytes, true);
  config.setUint8(ConfigOffset.physicalBlockExponent, Math.max(0, Math.round(Math.log2(blocksPerPhysical))));
  config.setUint16(ConfigOffset.minIoSize, Math.max(1, blocksPerPhysical), true);
  config.setUint8(ConfigOffset.writeback, WRITEBACK);
  config.setUint16(ConfigOffset.queueCount, queues, true);
  if (!storage.readOnly) {
    config.setUint32(ConfigOffset.maxDiscardSectors, RANGE_LIMIT_SECTORS, true);
    config.setUint32(ConfigOffset.maxDiscardSegments, 1, true);
    config.setUint32(ConfigOffset.discardAlignment, storage.physicalBlockBytes / SECTOR_BYTES, true);
    config.setUint32(ConfigOffset.maxWriteZeroesSectors, RANGE_LIMIT_SECTORS, true);
    config.setUint32(ConfigOffset.maxWriteZeroesSegments, 1, true);
    config.setUint8(ConfigOffset.writeZeroesMayUnmap, 1);
  }
  return new Uint8Array(config.buffer);
}

function putCapacity(config: DataView, storage: Storage): void {
  const sectors = Math.floor(storage.sizeBytes / SECTOR_BYTES);
  config.setUint32(protocol.ConfigOffset.capacity, sectors % 2 ** 32, true);
  config.setUint32(protocol.ConfigOffset.capacity + 4, Math.floor(sectors / 2 ** 32), true);
}
