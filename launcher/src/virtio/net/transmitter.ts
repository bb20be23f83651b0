import type { FrameFilter } from "../../net/frame-filter.ts";
import type { LinkLimiter } from "../../net/link-limiter.ts";
import { ETHERNET_HEADER_BYTES } from "../../net/protocols.ts";
import type { FrameWriter } from "../../sys/frame-writer.ts";
import type { DescriptorChain } from "../descriptor-chain.ts";
import type { FeatureBits, VirtioDriver } from "../device.ts";
import type { Virtqueue } from "../queue.ts";
import type { FrameQueue } from "./data-path.ts";
import type { DirectionCounter } from "./network-use.ts";
import * as protocol from "./protocol.ts";
import { TransmitBatch } from "./transmit-batch.ts";

const { HeaderOffset, VNET_HEADER_BYTES } = protocol;
/** What a queue may send before others have their turn. */
const TURN_FRAMES = 64;
const TURN_BYTES = 512 * 1024;
/** Header, a VLAN tag or two: what a frame has beside its MTU. */
const LINK_BYTES = ETHERNET_HEADER_BYTES + 8;

export interface TransmitterParts {
  readonly tap: FrameQueue;
  readonly writer: FrameWriter;
  readonly queueIndex: number;
  /** The longest chain. */
  readonly chainLimit: number;
  readonly mtuBytes: number;
  readonly counter: DirectionCounter;
  readonly filter?: FrameFilter | undefined;
  readonly limiter?: LinkLimiter | undefined;
  /** Takes a frame that the filter found to be for the launcher; only valid during the call. */
  onServed(frame: Uint8Array): void;
}

/** One transmit queue: from the guest's ring to a queue of the TAP, with one system call for as many frames as there are. */
export class Transmitter implements Disposable {
  readonly #parts: TransmitterParts;
  readonly #batch: TransmitBatch;
  #driver: VirtioDriver | null = null;
  #limits = headerLimits(new Set());
  #isUp = true;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: TransmitterParts) {
    this.#parts = parts;
    this.#batch = new TransmitBatch(parts);
  }

  start(driver: VirtioDriver): void {
    this.#driver = driver;
    this.#limits = headerLimits(driver.features);
  }

  stop(): void {
    this.#driver = null;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Without a link frames are taken, and lost. */
  setLink(isUp: boolean): void {
    this.#isUp = isUp;
  }

  /** True when it stopped with more to do. */
  serve(): boolean {
    const driver = this.#driver;
    const { queueIndex, limiter } = this.#parts;
    const queue = driver?.queue(queueIndex);
    if (!driver || !queue || this.#timer) return false;
    queue.suppressNotifications();
    let hasMore = true;
    let bytes = 0;
    let frames = 0;
    try {
      while (hasMore && frames < TURN_FRAMES && bytes < TURN_BYTES) {
        if (limiter && this.#mustWait(limiter, driver)) {
          hasMore = false;
          break;
        }
        const chain = queue.pop();
        if (chain === null) {
          hasMore = queue.enableNotifications();
          continue;
        }
        frames++;
        bytes += chain.readableBytes;
        this.#send(driver, chain);
        queue.fill(chain.head, 0);
      }
    } finally {
      // Before the driver hears of it: until then the memory is the device's.
      this.#batch.flush();
    }
    finish(driver, queue, queueIndex, frames);
    return hasMore;
  }

  #mustWait(limiter: LinkLimiter, driver: VirtioDriver): boolean {
    const delayMs = limiter.delayMs(performance.now());
    if (delayMs === 0) return false;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      driver.serveSoon(this.#parts.queueIndex);
    }, delayMs);
    return true;
  }

  #send(driver: VirtioDriver, chain: DescriptorChain): void {
    const { counter, filter, limiter, onServed } = this.#parts;
    const frameBytes = chain.readableBytes - VNET_HEADER_BYTES;
    limiter?.take(Math.max(0, frameBytes), performance.now());
    if (!this.#isUp) {
      counter.dropped++;
      return;
    }
    if (frameBytes < ETHERNET_HEADER_BYTES || chain.readableBytes > protocol.FRAME_BYTES_MAX) {
      counter.errors++;
      return;
    }
    const head = this.#batch.copyHead(driver.memory, chain);
    const checksumStart = this.#checkHeader(head.view, frameBytes);
    if (checksumStart === null) {
      counter.errors++;
      return;
    }
    const verdict = filter?.verdict(head.frame, frameBytes, checksumStart) ?? "pass";
    if (verdict === "drop") counter.dropped++;
    else if (verdict === "serve") onServed(this.#wholeFrame(driver, chain, frameBytes));
    else this.#batch.add(driver.memory, chain);
  }

  /**
   * Section 5.1.6.2: where the checksum starts, -1 for none; null where the header asks for what was not negotiated or
   * does not fit the frame. The kernel checks the rest of it against the frame's own headers.
   */
  #checkHeader(view: DataView, frameBytes: number): number | null {
    const flags = view.getUint8(HeaderOffset.flags) & protocol.VIRTIO_NET_HDR_F_NEEDS_CSUM;
    const gsoType = view.getUint8(HeaderOffset.gsoType);
    view.setUint8(HeaderOffset.flags, flags);
    if (gsoType === protocol.VIRTIO_NET_HDR_GSO_NONE) {
      if (frameBytes > this.#parts.mtuBytes + LINK_BYTES) return null;
    } else if (flags === 0 || !this.#limits.gsoTypes.has(gsoType) || view.getUint16(HeaderOffset.gsoSize, true) === 0)
      return null;
    if (flags === 0) return -1;
    const start = view.getUint16(HeaderOffset.checksumStart, true);
    const end = start + view.getUint16(HeaderOffset.checksumOffset, true) + 2;
    return this.#limits.checksum && end <= frameBytes ? start : null;
  }

  #wholeFrame(driver: VirtioDriver, chain: DescriptorChain, frameBytes: number): Uint8Array {
    const frame = new Uint8Array(frameBytes);
    chain.read(driver.memory, VNET_HEADER_BYTES, frame);
    return frame;
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#batch[Symbol.dispose]();
  }
}

function finish(driver: VirtioDriver, queue: Virtqueue, queueIndex: number, frames: number): void {
  if (frames === 0) return;
  queue.publish();
  driver.signalUsed(queueIndex);
}

interface HeaderLimits {
  readonly checksum: boolean;
  readonly gsoTypes: ReadonlySet<number>;
}

/** What a driver may ask for in a header, by what it negotiated. */
function headerLimits(features: FeatureBits): HeaderLimits {
  const gsoTypes = new Set<number>();
  const add = (feature: number, type: number) => {
    if (!features.has(feature)) return;
    gsoTypes.add(type);
    if (features.has(protocol.VIRTIO_NET_F_HOST_ECN)) gsoTypes.add(type | protocol.VIRTIO_NET_HDR_GSO_ECN);
  };
  add(protocol.VIRTIO_NET_F_HOST_TSO4, protocol.VIRTIO_NET_HDR_GSO_TCPV4);
  add(protocol.VIRTIO_NET_F_HOST_TSO6, protocol.VIRTIO_NET_HDR_GSO_TCPV6);
  return { checksum: features.has(protocol.VIRTIO_NET_F_CSUM), gsoTypes };
}
