import { FILTER_BYTES, type FrameFilter } from "../../net/frame-filter.ts";
import type { LinkLimiter } from "../../net/link-limiter.ts";
import { ETHERNET_HEADER_BYTES } from "../../net/protocols.ts";
import { writeFrame } from "../../sys/frame-io.ts";
import { IovecBlock } from "../../sys/iovec.ts";
import { Mapping } from "../../sys/mapping.ts";
import type { DescriptorChain } from "../descriptor-chain.ts";
import type { FeatureBits, VirtioDriver } from "../device.ts";
import type { Virtqueue } from "../queue.ts";
import type { FrameQueue } from "./data-path.ts";
import type { DirectionCounter } from "./network-use.ts";
import * as protocol from "./protocol.ts";

const { HeaderOffset, VNET_HEADER_BYTES } = protocol;
/** What a queue may send before others have their turn. */
const TURN_FRAMES = 64;
const TURN_BYTES = 512 * 1024;
/** Header, a VLAN tag or two: what a frame has beside its MTU. */
const LINK_BYTES = ETHERNET_HEADER_BYTES + 8;
const HEAD_BYTES = VNET_HEADER_BYTES + FILTER_BYTES;
const PAGE_BYTES = 4096;
const EINVAL = 22;

export interface TransmitterParts {
  readonly tap: FrameQueue;
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

/** One transmit queue: from the guest's ring to a queue of the TAP, one system call a frame. */
export class Transmitter implements Disposable {
  readonly #parts: TransmitterParts;
  readonly #iovecs: IovecBlock;
  /** The kernel gets the beginning of a frame from here, as it was checked: the guest may change its own memory. */
  readonly #headPage = Mapping.anonymous(PAGE_BYTES);
  readonly #head = new Uint8Array(this.#headPage.buffer, 0, HEAD_BYTES);
  readonly #headView = new DataView(this.#headPage.buffer);
  readonly #frameStart = this.#head.subarray(VNET_HEADER_BYTES);
  #driver: VirtioDriver | null = null;
  #limits = headerLimits(new Set());
  #isUp = true;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: TransmitterParts) {
    this.#parts = parts;
    this.#iovecs = new IovecBlock(parts.chainLimit + 1);
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
    const headBytes = this.#copyHead(driver, chain);
    const checksumStart = this.#checkHeader(frameBytes);
    if (checksumStart === null) {
      counter.errors++;
      return;
    }
    const verdict = filter?.verdict(this.#frameStart, frameBytes, checksumStart) ?? "pass";
    if (verdict === "drop") counter.dropped++;
    else if (verdict === "serve") onServed(this.#wholeFrame(driver, chain, frameBytes));
    else this.#write(driver, chain, headBytes, frameBytes);
  }

  /** Answers how many bytes. What is left of an earlier frame behind them is not looked at. */
  #copyHead(driver: VirtioDriver, chain: DescriptorChain): number {
    const wanted = Math.min(HEAD_BYTES, chain.readableBytes);
    for (let i = 0, done = 0; done < wanted; i++) {
      const part = Math.min(chain.lengthBytes(i), wanted - done);
      driver.memory.readShort(chain.address(i), this.#head, done, part);
      done += part;
    }
    return wanted;
  }

  /**
   * Section 5.1.6.2: where the checksum starts, -1 for none; null where the header asks for what was not negotiated or
   * does not fit the frame. The kernel checks the rest of it against the frame's own headers.
   */
  #checkHeader(frameBytes: number): number | null {
    const view = this.#headView;
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

  #write(driver: VirtioDriver, chain: DescriptorChain, headBytes: number, frameBytes: number): void {
    const { counter, tap } = this.#parts;
    this.#iovecs.set(0, this.#headPage.hostAddress, headBytes);
    let count = 1;
    for (let i = 0, skip = headBytes; i < chain.readableCount; i++) {
      const lengthBytes = chain.lengthBytes(i);
      if (skip >= lengthBytes) {
        skip -= lengthBytes;
        continue;
      }
      const address = driver.memory.hostAddress(chain.address(i), lengthBytes) + skip;
      this.#iovecs.set(count++, address, lengthBytes - skip);
      skip = 0;
    }
    const result = writeFrame(tap.fd, this.#iovecs, count);
    if (result >= 0) counter.count(frameBytes);
    else if (result === -EINVAL) counter.errors++;
    else counter.dropped++;
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#iovecs[Symbol.dispose]();
    this.#headPage[Symbol.dispose]();
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
