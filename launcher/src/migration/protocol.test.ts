import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { CodecError } from "../codec/codec-error.ts";
import { encodeFrame, FrameReader } from "./protocol.ts";

const entry = { leaf: 1, subleaf: 0, flags: 0, eax: 1, ebx: 2, ecx: 3, edx: 4 };
const hello = {
  version: 1,
  uid: "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11",
  launcherVersion: "test",
  memoryBytes: 1 << 25,
  connections: 2,
  processors: [{ cpuid: [entry] }],
};
const stream = () =>
  Buffer.concat([
    encodeFrame("hello", hello),
    encodeFrame("state", { pass: 3, state: new Uint8Array(5000).fill(7) }),
    encodeFrame("commit", {}),
  ]);

describe("frames of a migration", () => {
  it("are read however the stream is cut", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 30 }), (sizes) => {
        const reader = new FrameReader();
        const found = [];
        const whole = stream();
        for (let at = 0, i = 0; at < whole.length; i++) {
          const size = sizes[i % sizes.length] ?? 1;
          found.push(...reader.push(whole.subarray(at, at + size)));
          at += size;
        }
        expect(found.map(({ name }) => name)).toEqual(["hello", "state", "commit"]);
        expect(found[0]?.payload).toEqual(hello);
      }),
    );
  });

  it("are refused when any byte of them is another", () => {
    const whole = encodeFrame("hello", hello);
    for (let at = 0; at < whole.length; at++) {
      const damaged = whole.slice();
      damaged[at] = (damaged[at] ?? 0) ^ 0x41;
      const read = () => new FrameReader().push(damaged);
      // A length that grew waits for bytes that never come.
      if (at >= 4 && at < 8) expect(attempt(read)).toEqual([]);
      else expect(read).toThrow(CodecError);
    }
  });

  it("are refused when they are unknown, or claim to be larger than any of their kind", () => {
    const header = (type: number, length: number) => {
      const frame = Buffer.alloc(12);
      frame.writeUInt16LE(type, 0);
      frame.writeUInt32LE(length, 4);
      return frame;
    };
    expect(() => new FrameReader().push(header(77, 0))).toThrow("type 77");
    expect(() => new FrameReader().push(header(7, 2 ** 31))).toThrow("commit frame of 2147483648 bytes");
    expect(() => new FrameReader().push(header(5, 2 ** 31))).toThrow("state frame");
  });

  it("never do more than throw CodecError, whatever comes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (garbage) => {
        try {
          new FrameReader().push(garbage);
        } catch (error) {
          if (!(error instanceof CodecError)) throw error;
        }
      }),
    );
  });
});

/** Frames, or none where the stream was refused. */
function attempt(read: () => unknown[]): unknown[] {
  try {
    return read();
  } catch (error) {
    if (error instanceof CodecError) return [];
    throw error;
  }
}
