import type { FeatureBits, VirtioDriver } from "../device.ts";
import type { DataPath } from "./data-path.ts";
import type { NetworkUse } from "./network-use.ts";

/**
 * Two paths of one interface: a fast one whose writes to guest memory are not logged, and one whose are. A migration has
 * the second while it copies memory. The guest notices nothing.
 */
export class SwitchablePath implements DataPath {
  readonly #fast: DataPath;
  readonly #logged: DataPath;
  readonly #queuePairs: number;
  #current: DataPath;
  #driver: VirtioDriver | null = null;
  #pairs = 1;
  /** Null where they are what the driver negotiated. */
  #offloads: FeatureBits | null = null;

  /** Both are this object's from now on. */
  constructor(fast: DataPath, logged: DataPath, queuePairs: number) {
    this.#fast = fast;
    this.#logged = logged;
    this.#queuePairs = queuePairs;
    this.#current = fast;
  }

  get name(): DataPath["name"] {
    return this.#current.name;
  }

  setLogged(isLogged: boolean): void {
    const next = isLogged ? this.#logged : this.#fast;
    if (next === this.#current) return;
    const driver = this.#driver;
    this.#current.stop();
    // Receive buffers that waited for frames go back to their rings.
    for (let i = 0; driver && i < this.#queuePairs; i++) driver.queue(2 * i)?.unpop();
    this.#current = next;
    if (!driver?.isLive) return;
    next.start(driver);
    if (this.#offloads) next.setGuestOffloads(this.#offloads);
    if (this.#pairs !== 1) next.usePairs(this.#pairs);
    driver.doorbellsChanged();
    // The driver may have rung where nobody listens any more.
    for (let i = 0; i < 2 * this.#pairs; i++) driver.serveSoon(i);
  }

  start(driver: VirtioDriver): void {
    this.#driver = driver;
    this.#pairs = 1;
    this.#offloads = null;
    this.#current.start(driver);
  }

  stop(): void {
    this.#current.stop();
    this.#driver = null;
  }

  serve(queueIndex: number): boolean {
    return this.#current.serve(queueIndex);
  }

  doorbellFd(queueIndex: number): number | undefined {
    return this.#current.doorbellFd(queueIndex);
  }

  usePairs(count: number): boolean {
    if (!this.#current.usePairs(count)) return false;
    this.#pairs = count;
    return true;
  }

  setGuestOffloads(features: FeatureBits): void {
    this.#offloads = features;
    this.#current.setGuestOffloads(features);
  }

  setLink(isUp: boolean): void {
    this.#fast.setLink(isUp);
    this.#logged.setLink(isUp);
  }

  /** The kernel's counts, of whichever path. */
  use(): NetworkUse {
    return this.#fast.use();
  }

  [Symbol.dispose](): void {
    this.#fast[Symbol.dispose]();
    this.#logged[Symbol.dispose]();
  }
}
