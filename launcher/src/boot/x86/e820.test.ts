import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { e820Map } from "./e820.ts";
import { pciWindow64, ramRegions } from "./layout.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const LOW = { start: 0, sizeBytes: 0x9_fc00, type: 1 };
const FIRMWARE = { start: 0x9_fc00, sizeBytes: 0x6_0400, type: 2 };
const ECAM = { start: 0xe000_0000, sizeBytes: MIB, type: 2 };

describe("e820 map", () => {
  it.each([
    { ram: 64 * MIB, expected: [LOW, FIRMWARE, { start: MIB, sizeBytes: 63 * MIB, type: 1 }, ECAM] },
    { ram: 3 * GIB, expected: [LOW, FIRMWARE, { start: MIB, sizeBytes: 3 * GIB - MIB, type: 1 }, ECAM] },
    {
      ram: 5 * GIB,
      expected: [
        LOW,
        FIRMWARE,
        { start: MIB, sizeBytes: 3 * GIB - MIB, type: 1 },
        ECAM,
        { start: 4 * GIB, sizeBytes: 2 * GIB, type: 1 },
      ],
    },
    {
      ram: 300 * GIB,
      expected: [
        LOW,
        FIRMWARE,
        { start: MIB, sizeBytes: 3 * GIB - MIB, type: 1 },
        ECAM,
        { start: 4 * GIB, sizeBytes: 297 * GIB, type: 1 },
      ],
    },
  ])("of a machine with $ram bytes", ({ ram, expected }) => {
    expect(e820Map(ramRegions(ram))).toEqual(expected);
  });

  it("is sorted and disjoint, and names all RAM but the firmware area", () => {
    fc.assert(
      fc.property(fc.integer({ min: 16, max: 2 ** 21 }), (mebibytes) => {
        const map = e820Map(ramRegions(mebibytes * MIB));
        let free = 0;
        for (const entry of map) {
          expect(entry.start).toBeGreaterThanOrEqual(free);
          free = entry.start + entry.sizeBytes;
        }
        const ram = map.filter((entry) => entry.type === 1);
        const ramBytes = ram.reduce((sum, entry) => sum + entry.sizeBytes, 0);
        expect(ramBytes).toBe(mebibytes * MIB - FIRMWARE.sizeBytes);
        const lastEnd = Math.max(...ram.map(({ start, sizeBytes }) => start + sizeBytes));
        expect(pciWindow64(ramRegions(mebibytes * MIB)).start).toBe(Math.max(4 * GIB, lastEnd));
      }),
    );
  });
});
