import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { OutputRing } from "./output-ring.ts";

describe("the output ring", () => {
  it("holds exactly the last bytes of all that was appended, whatever the pieces", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 20 }),
        fc.nat({ max: 60 }),
        (capacity, pieces, maxBytes) => {
          const ring = new OutputRing(capacity);
          for (const piece of pieces) ring.append(piece);
          const all = Buffer.concat(pieces);
          expect(ring.end).toBe(all.length);
          expect(ring.start).toBe(Math.max(0, all.length - capacity));
          for (let position = ring.start; position <= ring.end; position++)
            expect(Buffer.from(ring.read(position, maxBytes))).toEqual(all.subarray(position, position + maxBytes));
        },
      ),
    );
  });

  it("refuses a position that it no longer or not yet has", () => {
    const ring = new OutputRing(4);
    ring.append(Buffer.from("abcdef"));
    expect(() => ring.read(1, 1)).toThrow(RangeError);
    expect(() => ring.read(7, 1)).toThrow(RangeError);
  });

  it("answers with a copy that later output leaves alone", () => {
    const ring = new OutputRing(4);
    ring.append(Buffer.from("abcd"));
    const copy = ring.read(0, 4);
    ring.append(Buffer.from("efgh"));
    expect(Buffer.from(copy).toString()).toBe("abcd");
  });
});
