import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { CodecError } from "../../codec/codec-error.ts";
import { BLOCK_ZEROES_LIMIT_BYTES, diskHeader, MEMORY_FRAME, memoryHeader, PAGES_LIMIT_BYTES } from "../protocol.ts";
import { MemoryStream } from "./memory-stream.ts";

const PAGE = 4096;
const token = new Uint8Array(32).fill(5);
const hello = Buffer.concat([memoryHeader(MEMORY_FRAME.hello, 32, 0), token]);

const DISK_BYTES = 16 * 512;

function setUp(sizePages = 8) {
  const memory = new Uint8Array(sizePages * PAGE).fill(1);
  const disk = new Uint8Array(DISK_BYTES).fill(1);
  const passes: number[] = [];
  const stream = new MemoryStream(
    {
      sizeBytes: memory.length,
      disks: [
        {
          name: "data",
          sizeBytes: DISK_BYTES,
          write: (offset, bytes) => disk.set(bytes, offset),
          zero: (offset, length) => disk.fill(0, offset, offset + length),
        },
      ],
      write: (offset, bytes) => memory.set(bytes, offset),
      zero: (offset, length) => memory.fill(0, offset, offset + length),
      passEnded: (pass) => passes.push(pass),
    },
    token,
  );
  return { memory, disk, passes, stream };
}

function blocks(disk: number, offsetBytes: number, lengthBytes: number): Buffer[] {
  const data = Buffer.alloc(lengthBytes, 9);
  return [diskHeader(disk, offsetBytes, lengthBytes, data), data];
}

const twice = (bytes: Buffer) => [bytes, bytes];

/** Two sectors, of which one byte is another than it was. */
function damaged(at: number): Buffer[] {
  const sent = Buffer.concat(blocks(0, 0, 1024));
  sent[at] = (sent[at] ?? 0) ^ 2;
  return [sent];
}

describe("a memory connection", () => {
  it("brings pages, zeroes and ends of passes, however the stream is cut", () => {
    const sent = Buffer.concat([
      hello,
      memoryHeader(MEMORY_FRAME.pages, 2 * PAGE, 3 * PAGE),
      Buffer.alloc(2 * PAGE, 7),
      memoryHeader(MEMORY_FRAME.zeroes, PAGE, 0),
      diskHeader(0, 1024, 1024, Buffer.alloc(1024, 9)),
      Buffer.alloc(1024, 9),
      diskHeader(0, 3072, 512, null),
      memoryHeader(MEMORY_FRAME.passEnd, 0, 0),
      memoryHeader(MEMORY_FRAME.passEnd, 0, 1),
    ]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 9 }), (sizes) => {
        const { memory, disk, passes, stream } = setUp();
        for (let at = 0, i = 0; at < sent.length; i++) {
          const size = sizes[i % sizes.length] ?? 1;
          stream.push(sent.subarray(at, at + size));
          at += size;
        }
        const pageOf = (page: number) => new Set(memory.subarray(page * PAGE, (page + 1) * PAGE));
        expect([0, 1, 2, 3, 4, 5].map((page) => [...pageOf(page)])).toEqual([[0], [1], [1], [7], [7], [1]]);
        const sectorOf = (sector: number) => new Set(disk.subarray(sector * 512, (sector + 1) * 512));
        expect([1, 2, 3, 4, 5, 6, 7].map((sector) => [...sectorOf(sector)])).toEqual([
          [1],
          [9],
          [9],
          [1],
          [1],
          [0],
          [1],
        ]);
        expect(passes).toEqual([0, 1]);
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
    ["of a pass that is not the next", [hello, memoryHeader(MEMORY_FRAME.passEnd, 0, 1)]],
    ["of an end that comes twice", [hello, ...twice(memoryHeader(MEMORY_FRAME.passEnd, 0, 0))]],
    ["of another disk", [hello, ...blocks(1, 0, 512)]],
    ["of blocks beyond a disk", [hello, ...blocks(0, DISK_BYTES, 512)]],
    ["of blocks across a disk's end", [hello, ...blocks(0, DISK_BYTES - 512, 1024)]],
    ["of blocks beyond 2^53", [hello, ...blocks(0, 2 ** 63, 512)]],
    ["of half a sector", [hello, ...blocks(0, 0, 256)]],
    ["between sectors", [hello, ...blocks(0, 100, 512)]],
    ["of blocks that carry none", [hello, ...blocks(0, 0, 0)]],
    ["of too many blocks", [hello, memoryHeader(MEMORY_FRAME.blocks, PAGES_LIMIT_BYTES + 13, 0)]],
    ["of too few bytes for a disk", [hello, memoryHeader(MEMORY_FRAME.blocks, 12, 0)]],
    ["of zeroes beyond a disk", [hello, diskHeader(0, 512, DISK_BYTES, null)]],
    ["of no zeroes", [hello, diskHeader(0, 0, 0, null)]],
    ["of too many zeroes", [hello, diskHeader(0, 0, BLOCK_ZEROES_LIMIT_BYTES + 512, null)]],
    ["of zeroes that carry bytes", [hello, memoryHeader(MEMORY_FRAME.blockZeroes, 20, 0)]],
    ["of blocks that are not what they were", [hello, ...damaged(40)]],
    ["of blocks for somewhere else", [hello, ...damaged(9)]],
    ["of a disk's length that is not its bytes'", [hello, ...damaged(20)]],
    ["of an unknown frame", [hello, memoryHeader(99, 0, 0)]],
  ])("%s is refused, and memory stays as it was", (_what, sent) => {
    const { memory, disk, stream } = setUp();
    expect(() => {
      for (const bytes of sent) stream.push(bytes);
    }).toThrow(CodecError);
    expect(memory.every((byte) => byte === 1)).toBe(true);
    expect(disk.every((byte) => byte === 1)).toBe(true);
  });

  it("names the disk that a frame does not fit", () => {
    const { stream } = setUp();
    stream.push(hello);
    const sent = Buffer.concat(blocks(0, DISK_BYTES, 512));
    expect(() => stream.push(sent)).toThrow("disk data has 8192 bytes: 8192+512 is no part of it");
  });

  it("writes nothing of a block that does not come whole", () => {
    const { disk, stream } = setUp();
    stream.push(hello);
    const sent = Buffer.concat(blocks(0, 0, 1024));
    stream.push(sent.subarray(0, sent.length - 1));
    expect(disk.every((byte) => byte === 1)).toBe(true);
    stream.push(sent.subarray(sent.length - 1));
    expect([...new Set(disk.subarray(0, 1024))]).toEqual([9]);
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
