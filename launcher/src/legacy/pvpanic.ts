import type { RangeHandler } from "../memory/address-space.ts";
import { byteWise } from "./byte-registers.ts";
import type { MachineEvents } from "./machine-events.ts";

/** Event bits, the same in what the device offers and in what the guest writes (QEMU, docs/specs/pvpanic.rst). */
const PANICKED = 0x01;
const CRASH_LOADED = 0x02;

/** The pvpanic device at its port: tells of a panic in the guest's kernel. It has no state. */
export function pvpanicPort(events: Pick<MachineEvents, "onPanic">): RangeHandler {
  return byteWise({
    readRegister: () => PANICKED | CRASH_LOADED,
    writeRegister(_offset, value) {
      if (value & PANICKED) events.onPanic("panicked");
      else if (value & CRASH_LOADED) events.onPanic("crash-loaded");
    },
  });
}
