import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { LineReader } from "./line-reader.ts";

describe("the line reader", () => {
  it("finds the same lines however the bytes come", () => {
    const lines = fc.array(fc.string({ unit: "grapheme", maxLength: 10 }).map((line) => line.replaceAll("\n", "")));
    fc.assert(
      fc.property(lines, fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1 }), (expected, cuts) => {
        const reader = new LineReader(1000);
        const bytes = Buffer.from(expected.map((line) => `${line}\n`).join(""));
        const found: string[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const length = cuts[i % cuts.length] as number;
          reader.push(bytes.subarray(at, at + length));
          at += length;
          for (let line = reader.next(); line !== undefined; line = reader.next()) found.push(line);
        }
        expect(found).toEqual(expected);
      }),
    );
  });

  it("takes a line of exactly its limit, and none that is longer", () => {
    const reader = new LineReader(5);
    reader.push(Buffer.from("abcd\n"));
    expect(reader.next()).toBe("abcd");
    reader.push(Buffer.from("abcd"));
    expect(reader.next()).toBeUndefined();
    reader.push(Buffer.from("e\n"));
    expect(() => reader.next()).toThrow(RangeError);
  });
});
