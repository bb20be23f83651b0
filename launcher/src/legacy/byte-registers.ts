import type { RangeHandler } from "../memory/address-space.ts";

/** A device of the ISA bus: 8-bit registers. `offset` counts from the start of its range, `value` is 0 to 255. */
export interface ByteRegisters {
  readRegister(offset: number): number;
  writeRegister(offset: number, value: number): void;
}

/** Splits wider accesses into single bytes, lowest address first, as the bus does. */
export function byteWise(registers: ByteRegisters): RangeHandler {
  return {
    read(offset, data) {
      for (let i = 0; i < data.length; i++) data[i] = registers.readRegister(offset + i);
    },
    write(offset, data) {
      // `?? 0` never applies: `i` is within the array.
      for (let i = 0; i < data.length; i++) registers.writeRegister(offset + i, data[i] ?? 0);
    },
  };
}
