import type { RangeHandler } from "../memory/address-space.ts";
import { byteWise } from "./byte-registers.ts";

/** Port 0x80: keeps the last code, as the latch behind it does on PCs. */
export function debugPort(): RangeHandler {
  let code = 0;
  return byteWise({
    readRegister: () => code,
    writeRegister: (_offset, value) => {
      code = value;
    },
  });
}
