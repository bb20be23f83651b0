import type { Gpa } from "../../memory/gpa.ts";
import type { DeviceCounters } from "../../net/device-counters.ts";
import type { VhostNet } from "../../net/vhost-net.ts";
import { EventFd } from "../../sys/eventfd.ts";
import type { FeatureBits, VirtioDriver } from "../device.ts";
import type { Virtqueue } from "../queue.ts";
import { type DataPath, type FrameQueue, tapOffloads } from "./data-path.ts";
import type { NetworkUse } from "./network-use.ts";

export type VhostPair = Pick<
  VhostNet,
  "setFeatures" | "setMemory" | "setRing" | "setEvents" | "setBackend" | "nextAvailable"
>;

export interface VhostPathParts {
  /** One a queue pair, and as many of the kernel's. */
  readonly taps: readonly FrameQueue[];
  readonly vhosts: readonly VhostPair[];
  /** Those of the TAP, which the kernel counts. */
  readonly counters: Pick<DeviceCounters, "read">;
}

/** Virtio 1.2, section 2.7.8: where a used ring has its index. */
const USED_INDEX = 2;

interface RingEvents {
  /** The driver's doorbell. */
  readonly kick: EventFd;
  /** Signalled by the kernel when the driver is to be interrupted. */
  readonly call: EventFd;
}

/**
 * Frames go through the kernel (vhost-net), between guest memory and the TAP; this process sees none, and
 * none of its interrupts where KVM sends them. What the kernel writes is not in the dirty bitmap.
 */
export class VhostPath implements DataPath {
  readonly name = "vhost-net";
  readonly #parts: VhostPathParts;
  readonly #events: readonly RingEvents[];
  /** Of the current driver: rings whose interrupts have their way to it. */
  #interrupts = new DisposableStack();
  #driver: VirtioDriver | null = null;
  /** Rings of the current driver that the kernel knows. */
  #pairsSetUp = 0;
  #pairs = 0;
  #isUp = true;

  constructor(parts: VhostPathParts) {
    this.#parts = parts;
    using cleanup = new DisposableStack();
    this.#events = parts.taps
      .flatMap((_, pair) => [2 * pair, 2 * pair + 1])
      .map(() => ({ kick: cleanup.use(new EventFd()), call: cleanup.use(new EventFd()) }));
    cleanup.move();
  }

  start(driver: VirtioDriver): void {
    this.#driver = driver;
    this.setGuestOffloads(driver.features);
    this.usePairs(1);
  }

  stop(): void {
    this.#setBackends(0);
    if (this.#driver) this.#takeBack(this.#driver);
    this.#interrupts[Symbol.dispose]();
    this.#interrupts = new DisposableStack();
    this.#driver = null;
    this.#pairs = 0;
    this.#pairsSetUp = 0;
  }

  /** Only for a driver that rings before its doorbells are there. */
  serve(queueIndex: number): boolean {
    this.#events[queueIndex]?.kick.signal();
    return false;
  }

  doorbellFd(queueIndex: number): number | undefined {
    return this.#events[queueIndex]?.kick.fd;
  }

  usePairs(count: number): boolean {
    const driver = this.#driver;
    if (!driver) return false;
    for (let i = 0; i < count; i++) if (!driver.queue(2 * i) || !driver.queue(2 * i + 1)) return false;
    for (; this.#pairsSetUp < count; this.#pairsSetUp++) this.#setUp(driver, this.#pairsSetUp);
    this.#parts.taps.forEach((tap, i) => {
      if (this.#parts.taps.length > 1 && i < count) tap.setAttached(true);
    });
    this.#pairs = count;
    this.#setBackends(this.#isUp ? count : 0);
    this.#parts.taps.forEach((tap, i) => {
      if (this.#parts.taps.length > 1 && i >= count) tap.setAttached(false);
    });
    return true;
  }

  setGuestOffloads(features: FeatureBits): void {
    this.#parts.taps[0]?.setOffloads(tapOffloads(features));
  }

  setLink(isUp: boolean): void {
    this.#isUp = isUp;
    this.#parts.taps[0]?.setCarrier(isUp);
    this.#setBackends(isUp ? this.#pairs : 0);
  }

  use(): NetworkUse {
    return this.#parts.counters.read();
  }

  #setUp(driver: VirtioDriver, pair: number): void {
    const vhost = this.#parts.vhosts[pair];
    if (!vhost) throw new RangeError(`no vhost-net for queue pair ${pair}`);
    const { memory, features } = driver;
    vhost.setFeatures(features);
    vhost.setMemory(
      memory.regions.map(({ gpa, sizeBytes }) => ({ gpa, sizeBytes, hostAddress: memory.hostAddress(gpa, sizeBytes) })),
    );
    for (const ring of [0, 1]) {
      const queue = driver.queue(2 * pair + ring);
      const events = this.#events[2 * pair + ring];
      if (!queue || !events) continue;
      vhost.setRing(ring, ringOf(driver, queue));
      vhost.setEvents(ring, events.kick.fd, events.call.fd);
      this.#interrupts.use(driver.interruptBy(2 * pair + ring, events.call));
    }
  }

  /** Whoever goes on with the queues starts where the kernel stopped. */
  #takeBack(driver: VirtioDriver): void {
    for (let queueIndex = 0; queueIndex < 2 * this.#pairsSetUp; queueIndex++) {
      const queue = driver.queue(queueIndex);
      const nextAvailable = this.#parts.vhosts[queueIndex >>> 1]?.nextAvailable(queueIndex & 1);
      if (!queue || nextAvailable === undefined) continue;
      const nextUsed = driver.memory.readU16((queue.layout.usedRing + USED_INDEX) as Gpa);
      queue.resumeAt({ nextAvailable, nextUsed, signalledUsed: nextUsed });
    }
  }

  /** The first `count` pairs carry frames. */
  #setBackends(count: number): void {
    for (let pair = 0; pair < this.#pairsSetUp; pair++) {
      const fd = pair < count ? (this.#parts.taps[pair]?.fd ?? null) : null;
      for (const ring of [0, 1]) this.#parts.vhosts[pair]?.setBackend(ring, fd);
      // Chains that were made available meanwhile.
      if (fd !== null) for (const ring of [0, 1]) this.#events[2 * pair + ring]?.kick.signal();
    }
  }

  [Symbol.dispose](): void {
    this.stop();
    for (const { kick, call } of this.#events) for (const each of [kick, call]) each[Symbol.dispose]();
  }
}

function ringOf({ memory }: VirtioDriver, { layout, position }: Virtqueue) {
  const { size, descriptorTable, availableRing, usedRing } = layout;
  return {
    size,
    descriptorTable: memory.hostAddress(descriptorTable, 16 * size),
    availableRing: memory.hostAddress(availableRing, 6 + 2 * size),
    usedRing: memory.hostAddress(usedRing, 6 + 8 * size),
    nextAvailable: position.nextAvailable,
  };
}
