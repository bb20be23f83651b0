import type { RangeHandler } from "../memory/address-space.ts";
import { byteWise } from "./byte-registers.ts";

/** Port 0x80: keeps the last code, as the latch behind it does on PCs. */
export class DebugPort {
  code = 0;
  readonly ports: RangeHandler = byteWise({
    readRegister: () => this.code,
    writeRegister: (_offset, value) => {
      this.code = value;
    },
  });
}
