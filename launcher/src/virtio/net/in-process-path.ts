import type { InterfaceLimits } from "../../../api/machine-config.ts";
import type { FrameFilter } from "../../net/frame-filter.ts";
import { LinkLimiter } from "../../net/link-limiter.ts";
import { FrameWriter } from "../../sys/frame-writer.ts";
import type { Poller } from "../../sys/poll-source.ts";
import type { FeatureBits, VirtioDriver } from "../device.ts";
import { type DataPath, type FrameQueue, tapOffloads } from "./data-path.ts";
import { DirectionCounter, type NetworkUse } from "./network-use.ts";
import { Receiver } from "./receiver.ts";
import { Transmitter } from "./transmitter.ts";

export interface InProcessPathParts {
  /** One a queue pair. */
  readonly taps: readonly FrameQueue[];
  /** The longest chain. */
  readonly chainLimit: number;
  readonly mtuBytes: number;
  readonly limits?: InterfaceLimits | undefined;
  readonly filter?: FrameFilter | undefined;
  readonly poller?: Poller | undefined;
  /** Of its own where none is given; the path's in any case. */
  readonly writer?: FrameWriter | undefined;
  /** The answer of the launcher's services to a frame of the guest. */
  answer(frame: Uint8Array): Uint8Array | null;
}

/** Frames go through this process, from and to guest memory. */
export class InProcessPath implements DataPath {
  readonly name = "inProcess";
  readonly #taps: readonly FrameQueue[];
  readonly #receivers: readonly Receiver[];
  readonly #transmitters: readonly Transmitter[];
  readonly #writer: FrameWriter;
  readonly #receive = new DirectionCounter();
  readonly #transmit = new DirectionCounter();
  #driver: VirtioDriver | null = null;
  #pairs = 0;

  constructor({ taps, limits, chainLimit, mtuBytes, filter, poller, writer, answer }: InProcessPathParts) {
    const limiter = () => limits && new LinkLimiter(limits, performance.now());
    const [receiveLimiter, transmitLimiter] = [limiter(), limiter()];
    const onServed = (frame: Uint8Array) => {
      const reply = answer(frame);
      if (reply) this.deliver(reply);
    };
    this.#taps = taps;
    this.#writer = writer ?? new FrameWriter();
    this.#receivers = taps.map(
      (tap, i) => new Receiver({ tap, queueIndex: 2 * i, counter: this.#receive, limiter: receiveLimiter, poller }),
    );
    this.#transmitters = taps.map((tap, i) => {
      const own = {
        tap,
        writer: this.#writer,
        queueIndex: 2 * i + 1,
        counter: this.#transmit,
        limiter: transmitLimiter,
      };
      return new Transmitter({ ...own, chainLimit, mtuBytes, filter, onServed });
    });
  }

  start(driver: VirtioDriver): void {
    this.#driver = driver;
    this.setGuestOffloads(driver.features);
    // Any queue may transmit, whichever receive.
    for (const transmitter of this.#transmitters) transmitter.start(driver);
    this.usePairs(1);
  }

  stop(): void {
    this.#driver = null;
    for (const transmitter of this.#transmitters) transmitter.stop();
    for (const receiver of this.#receivers) receiver.stop();
    this.#pairs = 0;
  }

  serve(queueIndex: number): boolean {
    const pair = queueIndex >>> 1;
    if (queueIndex % 2 === 1) {
      const hasMore = this.#transmitters[pair]?.serve() ?? false;
      this.#receivers[pair]?.expectAnswer();
      return hasMore;
    }
    if (pair < this.#pairs) this.#receivers[pair]?.serve();
    return false;
  }

  usePairs(count: number): boolean {
    const driver = this.#driver;
    if (!driver) return false;
    for (let i = 0; i < count; i++) if (!driver.queue(2 * i)) return false;
    this.#receivers.forEach((receiver, i) => {
      if (this.#taps.length > 1) this.#taps[i]?.setAttached(i < count);
      if (i >= count) receiver.stop();
      else if (i >= this.#pairs) receiver.start(driver);
    });
    this.#pairs = count;
    return true;
  }

  setGuestOffloads(features: FeatureBits): void {
    // Of the TAP as a whole.
    this.#taps[0]?.setOffloads(tapOffloads(features));
  }

  setLink(isUp: boolean): void {
    this.#taps[0]?.setCarrier(isUp);
    for (const transmitter of this.#transmitters) transmitter.setLink(isUp);
    for (const receiver of this.#receivers) receiver.setLink(isUp);
  }

  doorbellFd(): undefined {}

  /** Gives the guest a frame of the launcher's own. */
  deliver(frame: Uint8Array): void {
    this.#receivers[0]?.deliver(frame);
  }

  use(): NetworkUse {
    return { receive: this.#receive, transmit: this.#transmit };
  }

  [Symbol.dispose](): void {
    this.stop();
    for (const part of [...this.#receivers, ...this.#transmitters, this.#writer]) part[Symbol.dispose]();
  }
}
