import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import {
  bool,
  bytes,
  type Codec,
  decode,
  encode,
  fixedBytes,
  list,
  nullable,
  oneOf,
  record,
  since,
  text,
  u8,
  u16,
  u32,
  u53,
  u64,
  uint,
} from "./codec.ts";
import { CodecError } from "./codec-error.ts";

const shape = record({
  small: u8,
  middle: u16,
  large: u32,
  limited: uint(2, 1000),
  safe: u53(),
  whole: u64,
  flag: bool,
  blob: bytes(700),
  fixed: fixedBytes(3),
  name: text(40),
  choice: oneOf(["a", "b", "c"]),
  items: list(record({ id: u8, note: nullable(text(5)) }), 4),
});

const anyBytes = (max: number) => fc.uint8Array({ maxLength: max });
const value = fc.record({
  small: fc.nat(255),
  middle: fc.nat(65535),
  large: fc.nat(2 ** 32 - 1),
  limited: fc.nat(1000),
  safe: fc.maxSafeNat(),
  whole: fc.bigInt(0n, 2n ** 64n - 1n),
  flag: fc.boolean(),
  blob: anyBytes(700),
  fixed: fc.uint8Array({ minLength: 3, maxLength: 3 }),
  name: fc.string({ maxLength: 10 }),
  choice: fc.constantFrom("a" as const, "b" as const, "c" as const),
  items: fc.array(
    fc.record({ id: fc.nat(255), note: fc.option(fc.string({ maxLength: 5, unit: "grapheme-ascii" })) }),
    {
      maxLength: 4,
    },
  ),
});

function problem(act: () => unknown): CodecError {
  try {
    act();
  } catch (error) {
    if (error instanceof CodecError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("a codec", () => {
  it("reads back what it wrote", () => {
    fc.assert(
      fc.property(value, (sample) => {
        expect(decode(shape, encode(shape, sample), 1)).toEqual(sample);
      }),
    );
  });

  it("refuses bytes that end anywhere before the end, and bytes that go on", () => {
    fc.assert(
      fc.property(value, (sample) => {
        const encoded = encode(shape, sample);
        for (let length = 0; length < encoded.length; length++)
          expect(() => decode(shape, encoded.subarray(0, length), 1)).toThrow(CodecError);
        expect(problem(() => decode(shape, new Uint8Array([...encoded, 0]), 1)).message).toBe("1 bytes too many");
      }),
      { numRuns: 10 },
    );
  });

  it("reads anything as a value within its limits, or refuses it", () => {
    fc.assert(
      fc.property(anyBytes(200), (garbage) => {
        try {
          const found = decode(shape, garbage, 1);
          expect(encode(shape, found)).toEqual(garbage);
        } catch (error) {
          if (!(error instanceof CodecError)) throw error;
        }
      }),
    );
  });

  it.each<[string, Codec<unknown>, number[], string]>([
    ["a number beyond its limit", record({ size: uint(2, 8) }), [9, 0], "size: 9 is more than 8"],
    [
      "a safe number beyond 2^53",
      record({ at: u53() }),
      [0, 0, 0, 0, 0, 0, 0, 1],
      "at: 72057594037927936 is more than",
    ],
    ["a flag that is neither", record({ on: bool }), [2], "on: 2 is neither 0 nor 1"],
    ["a choice that there is not", record({ kind: oneOf(["x"]) }), [1], "kind: 1 stands for nothing"],
    ["text that is none", record({ name: text(4) }), [1, 0, 0, 0, 0xff], "name: is not UTF-8"],
    ["more bytes than allowed", record({ blob: bytes(2) }), [3, 0, 0, 0, 1, 2, 3], "blob: 3 is more than 2"],
    ["more items than allowed", record({ all: list(u8, 1) }), [2, 0, 0, 0, 1, 2], "all: 2 is more than 1"],
    [
      "a fault deep inside",
      record({ queues: list(record({ size: uint(1, 3) }), 9) }),
      [2, 0, 0, 0, 1, 4],
      "queues[1].size: 4 is more than 3",
    ],
  ])("names the field of %s", (_what, codec, input, message) => {
    expect(problem(() => decode(codec, new Uint8Array(input), 1)).message).toContain(message);
  });

  it("reads bytes that are the value's own, also from a Buffer that is used again", () => {
    const source = Buffer.from([3, 0, 0, 0, 1, 2, 3]);
    const found = decode(bytes(9), source, 1);
    source.fill(9);
    expect([found, found.buffer.byteLength]).toEqual([Uint8Array.of(1, 2, 3), 3]);
  });

  it("takes no room for items that the bytes only claim to have", () => {
    const claim = new Uint8Array([0xff, 0xff, 0xff, 0xff]);
    expect(problem(() => decode(list(u8, 2 ** 32 - 1), claim, 1)).field).toBe("[0]");
  });

  it("gives fields of later versions their default in earlier ones", () => {
    const versioned = record({ old: u8, added: since(2, u8, 77) });
    expect(decode(versioned, new Uint8Array([1]), 1)).toEqual({ old: 1, added: 77 });
    expect(decode(versioned, new Uint8Array([1, 2]), 2)).toEqual({ old: 1, added: 2 });
    expect(() => decode(versioned, new Uint8Array([1]), 2)).toThrow("added");
  });

  it("writes nothing that it would not read", () => {
    expect(() => encode(uint(2, 8), 9)).toThrow(RangeError);
    expect(() => encode(bytes(1), new Uint8Array(2))).toThrow(RangeError);
    expect(() => encode(fixedBytes(1), new Uint8Array(2))).toThrow(RangeError);
    expect(() => encode(u53(), -1)).toThrow(RangeError);
  });
});
