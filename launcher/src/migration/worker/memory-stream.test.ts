import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { CodecError } from "../../codec/codec-error.ts";
import { MEMORY_FRAME, memoryHeader, PAGES_LIMIT_BYTES } from "../protocol.ts";
import { MemoryStream } from "./memory-stream.ts";

const PAGE = 4096;
const token = new Uint8Array(32).fill(5);
const hello = Buffer.concat([memoryHeader(MEMORY_FRAME.hello, 32, 0), token]);

function setUp(sizePages = 8) {
  const memory = new Uint8Array(sizePages * PAGE).fill(1);
  const passes: number[] = [];
  const stream = new MemoryStream(
    {
      sizeBytes: memory.length,
      write: (offset, bytes) => memory.set(bytes, offset),
      zero: (offset, length) => memory.fill(0, offset, offset + length),
      passEnded: (pass) => passes.push(pass),
    },
    token,
  );
  return { memory, passes, stream };
}

describe("a memory connection", () => {
  it("brings pages, zeroes and ends of passes, however the stream is cut", () => {
    const sent = Buffer.concat([
      hello,
      memoryHeader(MEMORY_FRAME.pages, 2 * PAGE, 3 * PAGE),
      Buffer.alloc(2 * PAGE, 7),
      memoryHeader(MEMORY_FRAME.zeroes, PAGE, 0),
      memoryHeader(MEMORY_FRAME.passEnd, 0, 4),
    ]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 9 }), (sizes) => {
        const { memory, passes, stream } = setUp();
        for (let at = 0, i = 0; at < sent.length; i++) {
          const size = sizes[i % sizes.length] ?? 1;
          stream.push(sent.subarray(at, at + size));
          at += size;
        }
        const pageOf = (page: number) => new Set(memory.subarray(page * PAGE, (page + 1) * PAGE));
        expect([0, 1, 2, 3, 4, 5].map((page) => [...pageOf(page)])).toEqual([[0], [1], [1], [7], [7], [1]]);
        expect(passes).toEqual([4]);
      }),
      { numRuns: 30 },
    );
  });

  it.each<[string, Uint8Array[]]>([
    ["without a token", [memoryHeader(MEMORY_FRAME.pages, PAGE, 0), Buffer.alloc(PAGE)]],
    ["with another token", [memoryHeader(MEMORY_FRAME.hello, 32, 0), Buffer.alloc(32)]],
    ["with a token of another length", [memoryHeader(MEMORY_FRAME.hello, 2 ** 31, 0)]],
    ["that says hello twice", [hello, hello]],
    ["of a page beyond memory", [hello, memoryHeader(MEMORY_FRAME.pages, PAGE, 8 * PAGE)]],
    ["of pages across the end", [hello, memoryHeader(MEMORY_FRAME.pages, 2 * PAGE, 7 * PAGE)]],
    ["of an offset beyond 2^53", [hello, memoryHeader(MEMORY_FRAME.pages, PAGE, 2 ** 63)]],
    ["of half a page", [hello, memoryHeader(MEMORY_FRAME.pages, 2048, 0)]],
    ["between pages", [hello, memoryHeader(MEMORY_FRAME.pages, PAGE, 1)]],
    ["of no page", [hello, memoryHeader(MEMORY_FRAME.pages, 0, 0)]],
    ["of too many pages", [hello, memoryHeader(MEMORY_FRAME.pages, PAGES_LIMIT_BYTES + PAGE, 0)]],
    ["of zeroes beyond memory", [hello, memoryHeader(MEMORY_FRAME.zeroes, 9 * PAGE, 0)]],
    ["of an end that carries something", [hello, memoryHeader(MEMORY_FRAME.passEnd, 4, 1)]],
    ["of an unknown frame", [hello, memoryHeader(99, 0, 0)]],
  ])("%s is refused, and memory stays as it was", (_what, sent) => {
    const { memory, stream } = setUp();
    expect(() => {
      for (const bytes of sent) stream.push(bytes);
    }).toThrow(CodecError);
    expect(memory.every((byte) => byte === 1)).toBe(true);
  });

  it("never writes outside memory, whatever comes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
        const { stream } = setUp(1);
        try {
          stream.push(hello);
          stream.push(garbage);
        } catch (error) {
          if (!(error instanceof CodecError)) throw error;
        }
      }),
    );
  });
});
