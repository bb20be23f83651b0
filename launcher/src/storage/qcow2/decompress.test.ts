import { constants, deflateRawSync, zstdCompressSync } from "node:zlib";
import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { decompressCluster } from "./decompress.ts";
import type { CompressionType } from "./header.ts";
import { sampleContent } from "./testing/corpus.ts";
import { zstdFrameBytes } from "./zstd-frame.ts";

const CLUSTER = 65536;

const decompress = (type: CompressionType, bytes: Uint8Array) =>
  new Promise<Uint8Array | null>((resolve) =>
    decompressCluster(type, bytes, CLUSTER, (result) => resolve(result && Uint8Array.from(result))),
  );
const compress = (type: CompressionType, bytes: Uint8Array): Uint8Array =>
  type === "zlib" ? deflateRawSync(bytes, { windowBits: 12 }) : zstdCompressSync(bytes);

describe.each<CompressionType>(["zlib", "zstd"])("a cluster compressed with %s", (type) => {
  const cluster = sampleContent(CLUSTER);

  it("is decompressed, whatever follows it", async () => {
    const compressed = compress(type, cluster);
    for (const tail of [new Uint8Array(0), new Uint8Array(511), compressed, compressed.subarray(0, 700)])
      expect((await decompress(type, Buffer.concat([compressed, tail]))) ?? new Uint8Array(0)).toEqual(cluster);
  });

  it("is damaged when it gives less or more than a cluster", async () => {
    expect(await decompress(type, compress(type, cluster.subarray(1)))).toBeNull();
    expect(await decompress(type, compress(type, new Uint8Array(CLUSTER + 1)))).toBeNull();
    expect(await decompress(type, compress(type, new Uint8Array(256 << 20)))).toBeNull();
    expect(await decompress(type, compress(type, cluster).subarray(0, 9000))).toBeNull();
    expect(await decompress(type, new Uint8Array(0))).toBeNull();
  });

  it("is damaged or another cluster with any byte changed", async () => {
    const compressed = compress(type, cluster);
    const change = fc.tuple(fc.nat(compressed.length - 1), fc.integer({ min: 1, max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
        const changed = compressed.slice();
        for (const [at, bits] of changes) changed[at] = (changed[at] ?? 0) ^ bits;
        const result = await decompress(type, changed);
        expect(result?.length ?? CLUSTER).toBe(CLUSTER);
      }),
      { numRuns: 200 },
    );
  });
});

describe("the length of a zstd frame", () => {
  const checksum = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };

  it("is that of what was compressed, for any content", () => {
    const content = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.integer({ min: 0, max: 300_000 }).map((size) => sampleContent(size)),
      fc.integer({ min: 0, max: 300_000 }).map((size) => new Uint8Array(size)),
    );
    fc.assert(
      fc.property(content, fc.boolean(), fc.uint8Array({ maxLength: 20 }), (bytes, hasChecksum, tail) => {
        const frame = zstdCompressSync(bytes, hasChecksum ? checksum : {});
        expect(zstdFrameBytes(Buffer.concat([frame, tail]))).toBe(frame.length);
        expect(zstdFrameBytes(frame.subarray(0, frame.length - 1))).toBe(-1);
      }),
      { numRuns: 60 },
    );
  });

  it("is none for anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const frame = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, ...bytes);
        expect(zstdFrameBytes(frame)).toBeLessThanOrEqual(frame.length);
        expect(zstdFrameBytes(bytes)).toBe(-1);
      }),
    );
  });
});
