import type { RangeHandler } from "../memory/address-space.ts";

/** ACPI 6.5, section 4.8.2.1: 3.579545 MHz. */
const TICKS_PER_MS = 3579.545;

/** The power-management timer: 32 bits that count up. `nowMs` never goes back, as performance.now. */
export function pmTimerPort(nowMs: () => number = () => performance.now()): RangeHandler {
  return {
    read(offset, data) {
      const ticks = Math.floor(nowMs() * TICKS_PER_MS) % 2 ** 32;
      for (let i = 0; i < data.length; i++) data[i] = offset + i < 4 ? ticks / 2 ** (8 * (offset + i)) : 0xff;
    },
    write() {},
  };
}
