import type { RangeHandler } from "../memory/address-space.ts";

/** ACPI 6.5, section 4.8.2.1: 3.579545 MHz. */
const TICKS_PER_MS = 3579.545;

/** The power-management timer: 32 bits that count up. */
export class PmTimer {
  readonly #nowMs: () => number;
  /** Between the host's clock and the guest's, where this machine went on from another one. */
  #offsetMs = 0;

  /** `nowMs` never goes back, as performance.now. */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** What it counts, in whole milliseconds. */
  get timeMs(): number {
    return Math.floor(this.#nowMs() + this.#offsetMs);
  }

  /** Goes on at `timeMs`, or a little later: it never goes back. */
  restore(timeMs: number): void {
    this.#offsetMs = timeMs + 1 - this.#nowMs();
  }

  readonly ports: RangeHandler = {
    read: (offset, data) => {
      const ticks = Math.floor((this.#nowMs() + this.#offsetMs) * TICKS_PER_MS) % 2 ** 32;
      for (let i = 0; i < data.length; i++) data[i] = offset + i < 4 ? ticks / 2 ** (8 * (offset + i)) : 0xff;
    },
    write() {},
  };
}
