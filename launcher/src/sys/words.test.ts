import { describe, expect, it } from "@jest/globals";
import { setLong } from "./words.ts";

describe("64 bits in two words", () => {
  it.each([0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 0x7fff_ffff_f000, Number.MAX_SAFE_INTEGER])("are %d", (value) => {
    for (const words of [new Uint32Array(4).fill(7), new Int32Array(4).fill(7)]) {
      setLong(words, 1, value);
      const view = new DataView(words.buffer);
      expect(view.getBigUint64(4, true)).toBe(BigInt(value));
      expect([words[0], words[3]]).toEqual([7, 7]);
    }
  });
});
