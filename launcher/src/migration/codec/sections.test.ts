import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { CodecError } from "../../codec/codec-error.ts";
import { decodeSections, encodeSections } from "./sections.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);
const sample = [
  { id: 1, payload: utf8("one") },
  { id: 2, payload: new Uint8Array(0) },
  { id: 9, payload: utf8("newer"), isSkippable: true },
];
const known = new Set([1, 2]);

describe("the sections of a state", () => {
  it("are read back, those that may be skipped left out where they are unknown", () => {
    const { version, payloads } = decodeSections(encodeSections(sample), known);
    expect(version).toBe(1);
    expect([...payloads]).toEqual([
      [1, utf8("one")],
      [2, new Uint8Array(0)],
    ]);
    expect(decodeSections(encodeSections(sample), new Set([1, 2, 9])).payloads.get(9)).toEqual(utf8("newer"));
  });

  it("are refused where one is unknown that must not be skipped", () => {
    expect(() => decodeSections(encodeSections([{ id: 7, payload: utf8("x") }]), known)).toThrow(
      "section 7 is unknown",
    );
  });

  it("are refused when any byte of them was changed, in whatever way", () => {
    const encoded = encodeSections(sample);
    for (let at = 0; at < encoded.length; at++)
      for (const flip of [0x01, 0x80, 0xff]) {
        const damaged = encoded.slice();
        damaged[at] = (damaged[at] ?? 0) ^ flip;
        expect(() => decodeSections(damaged, new Set([1, 2, 9]))).toThrow(CodecError);
      }
  });

  it("are refused when they are cut anywhere, or when something follows", () => {
    const encoded = encodeSections(sample);
    for (let length = 0; length < encoded.length; length++)
      expect(() => decodeSections(encoded.subarray(0, length), known)).toThrow(CodecError);
    expect(() => decodeSections(Uint8Array.of(...encoded, 0), known)).toThrow("1 bytes behind the end");
  });

  it("are refused when one is there twice, or one was taken out", () => {
    const twice = encodeSections([sample[0] ?? { id: 1, payload: utf8("") }, { id: 1, payload: utf8("") }]);
    expect(() => decodeSections(twice, known)).toThrow("section 1 is there twice");
    const whole = encodeSections([
      { id: 1, payload: utf8("ab") },
      { id: 2, payload: utf8("cd") },
    ]);
    const sectionBytes = 14;
    const without = Uint8Array.of(...whole.subarray(0, 12), ...whole.subarray(12 + sectionBytes));
    expect(() => decodeSections(without, known)).toThrow("the end does not fit");
  });

  it("of other versions are refused with what to do", () => {
    const encoded = encodeSections(sample);
    encoded[8] = 99;
    expect(() => decodeSections(encoded, known)).toThrow(/format version 99; this launcher reads 1 to 1, use the one/);
  });

  it("never do more than throw CodecError, whatever they are", () => {
    const magic = encodeSections([]).subarray(0, 12);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (garbage) => {
        for (const input of [garbage, Uint8Array.of(...magic, ...garbage)])
          try {
            decodeSections(input, known);
          } catch (error) {
            if (!(error instanceof CodecError)) throw error;
          }
      }),
    );
  });
});
