import type { LinkState } from "../../../api/machine-config.ts";
import { decode, encode } from "../../codec/codec.ts";
import { StateRefused } from "../../codec/state-refused.ts";
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
import { type ControlTarget, runControlRequest } from "./control-request.ts";
import type { DataPath } from "./data-path.ts";
import * as protocol from "./protocol.ts";
import { netStateCodec } from "./state.ts";

/** Of the receive and transmit queues: as many descriptors as a chain may have. */
export const NET_QUEUE_SIZE = 256;
const CONTROL_QUEUE_SIZE = 64;
/** Minimum of IPv4 (RFC 791): below, a driver would refuse the device. */
const MTU_MIN = 68;

export interface NetDeviceOptions {
  readonly name: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly mtuBytes: number;
  /** Queue pairs, 1 to 8. */
  readonly pairs: number;
  readonly link: LinkState;
  readonly path: DataPath;
  /** Whether its transmit queues are looked at. */
  readonly isPolled?: boolean;
  /** The driver is ready: it may be told of the network. */
  onStart?(): void;
  /** The guest came from another launcher, with its link up, and its frames are carried here from now on. */
  onArrival?(): void;
}

/** A network interface (virtio 1.2, section 5.1). */
export class NetDevice implements VirtioDevice {
  readonly name: string;
  readonly deviceType = protocol.DEVICE_TYPE_NET;
  readonly pciClass = 0x020000;
  readonly features: FeatureBits;
  readonly queueSizes: readonly number[];
  /** A driver has been ready for it since it was made. */
  hadDriver = false;
  readonly #options: NetDeviceOptions;
  readonly #config = new DataView(new ArrayBuffer(protocol.CONFIG_SIZE));
  #driver: VirtioDriver | null = null;
  #link: LinkState;
  /** Pairs that carry frames, as the driver asked. */
  #pairs = 1;
  /** What the driver asked for after it negotiated; null where it did not. */
  #offloads: FeatureBits | null = null;
  /** The path is stopped until the next `serve`. */
  #isHeld = false;
  /** The guest came from another launcher, and was not told yet. */
  #isNewHere = false;

  constructor(options: NetDeviceOptions) {
    const { mac, mtuBytes, pairs } = options;
    this.name = `virtio-net ${options.name}`;
    this.#options = options;
    this.#link = options.link;
    this.features = offeredFeatures(options);
    this.queueSizes = [...new Array<number>(2 * pairs).fill(NET_QUEUE_SIZE), CONTROL_QUEUE_SIZE];
    new Uint8Array(this.#config.buffer).set(mac, protocol.ConfigOffset.mac);
    this.#config.setUint16(protocol.ConfigOffset.maxQueuePairs, pairs, true);
    this.#config.setUint16(protocol.ConfigOffset.mtu, mtuBytes, true);
    this.#putStatus(0);
    options.path.setLink(options.link === "up");
  }

  get link(): LinkState {
    return this.#link;
  }

  /** Tells the guest. When the link comes up, a guest that can makes itself known to its network (GUEST_ANNOUNCE). */
  setLink(link: LinkState): void {
    if (this.#link === link) return;
    this.#link = link;
    this.#options.path.setLink(link === "up");
    this.#putStatus(this.#wish);
    if (this.#driver?.features.has(protocol.VIRTIO_NET_F_STATUS)) this.#driver.signalConfigChange();
    if (link === "up" && this.#driver) this.#options.onStart?.();
  }

  /** Buffers that come tell of nothing that follows. */
  isPolled(queueIndex: number): boolean {
    return queueIndex % 2 === 1 && (this.#options.isPolled ?? false);
  }

  doorbellFd(queueIndex: number): number | undefined {
    const isControl = this.#driver && queueIndex === this.#controlQueue(this.#driver);
    return isControl ? undefined : this.#options.path.doorbellFd(queueIndex);
  }

  readConfig(offset: number, data: Uint8Array): void {
    readConfigBytes(new Uint8Array(this.#config.buffer), offset, data);
  }

  writeConfig(): void {}

  activate(driver: VirtioDriver, isHeld = false): void {
    this.hadDriver = true;
    this.#driver = driver;
    this.#isHeld = isHeld;
    if (isHeld) return;
    this.#options.path.start(driver);
    this.#options.onStart?.();
  }

  /** Receive buffers that wait for frames go back to their rings; a frame that waits for more of them is lost. */
  hold(): undefined {
    const driver = this.#driver;
    if (!driver || this.#isHeld) return;
    this.#isHeld = true;
    this.#options.path.stop();
    for (let i = 0; i < 2 * this.#options.pairs; i += 2) driver.queue(i)?.unpop();
  }

  saveState(): Uint8Array {
    return encode(netStateCodec, {
      link: this.#link,
      status: this.#config.getUint16(protocol.ConfigOffset.status, true),
      pairs: this.#pairs,
      offloads: this.#offloads && [...this.#offloads],
    });
  }

  restoreState(state: Uint8Array, version: number): void {
    const { link, pairs, offloads } = decode(netStateCodec, state, version);
    if (pairs > this.#options.pairs)
      throw new StateRefused(
        this.name,
        `the guest uses ${pairs} queue pairs, and there are ${this.#options.pairs} here`,
      );
    this.#pairs = pairs;
    this.#offloads = offloads && new Set(offloads.filter((bit) => this.#driver?.features.has(bit)));
    this.#link = link;
    this.#options.path.setLink(link === "up");
    // Whoever sends to the guest must learn where it is now.
    this.#putStatus(this.#wish);
    this.#isNewHere = true;
  }

  #goOn(driver: VirtioDriver): void {
    const { path } = this.#options;
    this.#isHeld = false;
    path.start(driver);
    if (this.#offloads) path.setGuestOffloads(this.#offloads);
    if (this.#pairs !== 1) path.usePairs(this.#pairs);
    if (this.#isNewHere) this.#arrive(driver);
    this.#isNewHere = false;
  }

  #arrive(driver: VirtioDriver): void {
    if (driver.features.has(protocol.VIRTIO_NET_F_GUEST_ANNOUNCE)) driver.signalConfigChange();
    if (this.#link === "up") this.#options.onArrival?.();
  }

  reset(): undefined {
    this.#driver = null;
    this.#isHeld = false;
    this.#isNewHere = false;
    this.#pairs = 1;
    this.#offloads = null;
    this.#options.path.stop();
    this.#putStatus(0);
  }

  serve(queueIndex: number): boolean {
    const driver = this.#driver;
    if (!driver) return false;
    if (this.#isHeld) this.#goOn(driver);
    if (queueIndex !== this.#controlQueue(driver)) return this.#options.path.serve(queueIndex);
    const queue = driver.queue(queueIndex);
    return queue ? this.#control(driver, queue, queueIndex) : false;
  }

  /** Section 5.1.2: after the pairs that the driver knows of; -1 for none. */
  #controlQueue({ features }: VirtioDriver): number {
    if (!features.has(protocol.VIRTIO_NET_F_CTRL_VQ)) return -1;
    return features.has(protocol.VIRTIO_NET_F_MQ) ? 2 * this.#options.pairs : 2;
  }

  #control(driver: VirtioDriver, queue: Virtqueue, queueIndex: number): boolean {
    const { path, pairs } = this.#options;
    const target: ControlTarget = {
      maxPairs: pairs,
      features: driver.features,
      usePairs: (count) => {
        if (!path.usePairs(count)) return false;
        this.#pairs = count;
        return true;
      },
      setGuestOffloads: (features) => {
        this.#offloads = features;
        path.setGuestOffloads(features);
      },
      announced: () => this.#putStatus(0),
    };
    let hasMore = true;
    for (let served = 0; hasMore && served < queue.size; served++) {
      const chain = queue.pop();
      if (chain === null) hasMore = queue.enableNotifications();
      else queue.push(chain.head, runControlRequest(chain, driver.memory, target));
    }
    driver.signalUsed(queueIndex);
    return hasMore;
  }

  /** That the guest make itself known, where it can. */
  get #wish(): number {
    const isKnown = this.#driver?.features.has(protocol.VIRTIO_NET_F_GUEST_ANNOUNCE) ?? false;
    return isKnown && this.#link === "up" ? protocol.VIRTIO_NET_S_ANNOUNCE : 0;
  }

  #putStatus(more: number): void {
    const isUp = this.#link === "up" ? protocol.VIRTIO_NET_S_LINK_UP : 0;
    this.#config.setUint16(protocol.ConfigOffset.status, isUp | more, true);
  }
}

function offeredFeatures({ mtuBytes, pairs }: NetDeviceOptions): FeatureBits {
  const features = new Set([
    VIRTIO_F_VERSION_1,
    VIRTIO_F_EVENT_IDX,
    VIRTIO_F_INDIRECT_DESC,
    protocol.VIRTIO_NET_F_MAC,
    protocol.VIRTIO_NET_F_STATUS,
    protocol.VIRTIO_NET_F_MRG_RXBUF,
    protocol.VIRTIO_NET_F_CSUM,
    protocol.VIRTIO_NET_F_HOST_TSO4,
    protocol.VIRTIO_NET_F_HOST_TSO6,
    protocol.VIRTIO_NET_F_HOST_ECN,
    protocol.VIRTIO_NET_F_GUEST_CSUM,
    protocol.VIRTIO_NET_F_GUEST_TSO4,
    protocol.VIRTIO_NET_F_GUEST_TSO6,
    protocol.VIRTIO_NET_F_GUEST_ECN,
    protocol.VIRTIO_NET_F_CTRL_VQ,
    protocol.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    protocol.VIRTIO_NET_F_GUEST_ANNOUNCE,
  ]);
  if (mtuBytes >= MTU_MIN) features.add(protocol.VIRTIO_NET_F_MTU);
  if (pairs > 1) features.add(protocol.VIRTIO_NET_F_MQ);
  return features;
}
