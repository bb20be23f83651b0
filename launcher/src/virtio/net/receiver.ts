import type { LinkLimiter } from "../../net/link-limiter.ts";
import { type FdWatch, watchFd } from "../../sys/fd-watch.ts";
import { readFrame } from "../../sys/frame-io.ts";
import type { Poller, PollSource } from "../../sys/poll-source.ts";
import type { VirtioDriver } from "../device.ts";
import type { Virtqueue } from "../queue.ts";
import type { FrameQueue } from "./data-path.ts";
import type { DirectionCounter } from "./network-use.ts";
import { FRAME_BYTES_MAX, VIRTIO_NET_F_MRG_RXBUF, VNET_HEADER_BYTES } from "./protocol.ts";
import { ReceiveBuffers } from "./receive-buffers.ts";

/** What a queue may receive before others have their turn. */
const TURN_FRAMES = 64;
const TURN_BYTES = 512 * 1024;
/** Answers of the launcher's services that wait for buffers. */
const BACKLOG_LIMIT = 16;
const EAGAIN = 11;

export interface ReceiverParts {
  readonly tap: FrameQueue;
  readonly queueIndex: number;
  readonly counter: DirectionCounter;
  readonly limiter?: LinkLimiter | undefined;
  /** Looks for frames as well; the TAP's event alone tells of them without. */
  readonly poller?: Poller | undefined;
}

/**
 * One receive queue: from a queue of the TAP straight to the guest's buffers, one system call a frame. Without buffers,
 * or beyond a limit, frames stay in the TAP, which drops what it has no room for.
 */
export class Receiver implements Disposable {
  readonly #parts: ReceiverParts;
  readonly #buffers = new ReceiveBuffers();
  readonly #watch: FdWatch;
  /** Reading is the look. Events of the TAP go on meanwhile, and cost nothing while nobody waits for them. */
  readonly #source: PollSource = {
    isWatched: false,
    isReady: () => this.#isWatching && this.#receive(),
    run: () => {},
    rest: () => false,
  };
  #driver: VirtioDriver | null = null;
  #isMergeable = false;
  #isWatching = true;
  /** A frame that was read and is larger than the chains that there were: its length, and how much of it fitted. */
  #spilledBytes = 0;
  #fittedBytes = 0;
  #backlog: Uint8Array[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isUp = true;

  constructor(parts: ReceiverParts) {
    this.#parts = parts;
    this.#watch = watchFd(parts.tap.fd, { readable: true }, () => {
      this.#parts.poller?.woken(this.#source);
      this.#receive();
    });
    this.#watch.unref();
    this.#setWatching(false);
  }

  start(driver: VirtioDriver): void {
    this.#driver = driver;
    this.#isMergeable = driver.features.has(VIRTIO_NET_F_MRG_RXBUF);
    driver.queue(this.#parts.queueIndex)?.suppressNotifications();
    this.#setWatching(true);
  }

  stop(): void {
    this.#driver = null;
    this.#buffers.clear();
    this.#backlog = [];
    this.#spilledBytes = 0;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#parts.poller?.leave(this.#source);
    this.#setWatching(false);
  }

  /** The guest has sent something, whose answer may come soon. */
  expectAnswer(): void {
    if (this.#isWatching) this.#parts.poller?.join(this.#source);
  }

  /** Without a link frames are read, and lost. */
  setLink(isUp: boolean): void {
    this.#isUp = isUp;
  }

  /** The driver has added buffers. */
  serve(): void {
    if (!this.#driver || this.#timer) return;
    this.#driver.queue(this.#parts.queueIndex)?.suppressNotifications();
    this.#receive();
  }

  /** Gives the guest a frame of the launcher's own, at once or when there are buffers. */
  deliver(frame: Uint8Array): void {
    if (!this.#driver || !this.#isUp) return;
    if (this.#backlog.length < BACKLOG_LIMIT) this.#backlog.push(frame);
    else this.#parts.counter.dropped++;
    this.#receive();
  }

  /** False when nothing came. */
  #receive(): boolean {
    const driver = this.#driver;
    const queue = driver?.queue(this.#parts.queueIndex);
    if (!driver?.isLive || !queue) {
      this.#setWatching(false);
      return false;
    }
    const { counter, queueIndex } = this.#parts;
    const before = counter.packets;
    try {
      this.#setWatching(this.#turn(driver, queue));
      driver.signalUsed(queueIndex);
    } catch (error) {
      this.#setWatching(false);
      driver.fail(error);
    }
    return counter.packets !== before;
  }

  /** False when there is nothing to watch for: until the driver adds buffers, or time has gone by. */
  #turn(driver: VirtioDriver, queue: Virtqueue): boolean {
    if (this.#spilledBytes > 0 && !this.#finishSpilled(driver, queue)) return false;
    if (!this.#deliverBacklog(driver, queue)) return false;
    for (let frames = 0, bytes = 0; frames < TURN_FRAMES && bytes < TURN_BYTES; frames++) {
      if (this.#mustWait() || !this.#refill(driver, queue, this.#isMergeable ? FRAME_BYTES_MAX : 1, 1)) return false;
      const frameBytes = this.#read();
      if (frameBytes === -EAGAIN) return true;
      if (frameBytes < VNET_HEADER_BYTES) {
        this.#parts.counter.errors++;
        // Not a frame but an error, which would come again and again: the TAP is gone.
        if (frameBytes < 0) return false;
        continue;
      }
      bytes += frameBytes;
      if (!this.#isUp) {
        this.#parts.counter.dropped++;
        continue;
      }
      this.#parts.limiter?.take(frameBytes - VNET_HEADER_BYTES, performance.now());
      if (!this.#place(driver, queue, frameBytes)) return false;
    }
    return true;
  }

  #read(): number {
    const { iovecs, firstIovec, iovecCount, bounceIovec } = this.#buffers;
    if (!this.#isUp) return readFrame(this.#parts.tap.fd, iovecs, bounceIovec, 1);
    return readFrame(this.#parts.tap.fd, iovecs, firstIovec, iovecCount);
  }

  /** False when the frame waits for more buffers. */
  #place(driver: VirtioDriver, queue: Virtqueue, frameBytes: number): boolean {
    if (frameBytes <= this.#buffers.bytes) {
      this.#complete(driver, queue, frameBytes);
      return true;
    }
    if (!this.#isMergeable) {
      // Section 5.1.6.3.1: the driver should have given larger ones. They are used for the next frame.
      this.#parts.counter.dropped++;
      return true;
    }
    this.#spilledBytes = frameBytes;
    this.#fittedBytes = this.#buffers.bytes;
    return this.#finishSpilled(driver, queue);
  }

  #finishSpilled(driver: VirtioDriver, queue: Virtqueue): boolean {
    const frameBytes = this.#spilledBytes;
    if (!this.#refill(driver, queue, frameBytes, frameBytes) || this.#buffers.bytes < frameBytes) {
      // All of the driver's buffers are not enough.
      if (queue.inFlightCount < queue.size) return false;
      this.#parts.counter.dropped++;
    } else {
      this.#buffers.unspill(driver.memory, this.#fittedBytes, frameBytes - this.#fittedBytes);
      this.#complete(driver, queue, frameBytes);
    }
    this.#spilledBytes = 0;
    return true;
  }

  /** False when some of it waits for buffers. */
  #deliverBacklog(driver: VirtioDriver, queue: Virtqueue): boolean {
    for (let frame = this.#backlog[0]; frame; frame = this.#backlog[0]) {
      const frameBytes = VNET_HEADER_BYTES + frame.length;
      if (!this.#refill(driver, queue, this.#isMergeable ? frameBytes : 1, 1)) return false;
      const fits = this.#buffers.bytes >= frameBytes;
      if (!fits && this.#isMergeable && queue.inFlightCount < queue.size && !queue.enableNotifications()) return false;
      this.#backlog.shift();
      if (!fits) {
        this.#parts.counter.dropped++;
        continue;
      }
      this.#buffers.write(driver.memory, 0, EMPTY_HEADER);
      this.#buffers.write(driver.memory, VNET_HEADER_BYTES, frame);
      this.#complete(driver, queue, frameBytes);
    }
    return true;
  }

  #complete(driver: VirtioDriver, queue: Virtqueue, frameBytes: number): void {
    this.#buffers.complete(driver, queue, frameBytes);
    this.#parts.counter.count(frameBytes - VNET_HEADER_BYTES);
  }

  /**
   * Takes chains until there is room for `wantedBytes`, or no more of them. With less than `neededBytes` the driver is
   * asked to ring for the next. False when there is none at all.
   */
  #refill(driver: VirtioDriver, queue: Virtqueue, wantedBytes: number, neededBytes: number): boolean {
    const buffers = this.#buffers;
    while (buffers.bytes < wantedBytes && buffers.hasRoomFor(queue.layout.chainLimit)) {
      if (buffers.take(queue, driver.memory)) continue;
      if (buffers.bytes >= neededBytes || !queue.enableNotifications()) break;
    }
    return buffers.chains > 0;
  }

  #mustWait(): boolean {
    if (this.#timer) return true;
    const delayMs = this.#parts.limiter?.delayMs(performance.now()) ?? 0;
    if (delayMs === 0) return false;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#receive();
    }, delayMs);
    return true;
  }

  #setWatching(isWatching: boolean): void {
    if (this.#isWatching === isWatching) return;
    this.#isWatching = isWatching;
    if (isWatching) this.#watch.resume();
    else this.#watch.pause();
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#watch[Symbol.dispose]();
    this.#buffers[Symbol.dispose]();
  }
}

const EMPTY_HEADER = new Uint8Array(VNET_HEADER_BYTES);
