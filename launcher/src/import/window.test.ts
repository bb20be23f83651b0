import { execFileSync } from "node:child_process";
import { constants, gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, it } from "@jest/globals";
import { checkWindow, windowBytesOf, windowLimitBytes } from "./window.ts";

const MIB = 2 ** 20;

/** As `xz` makes it; its header claims the dictionary, however short the file is. */
function xz(...options: string[]): Buffer {
  return execFileSync("xz", ["--format=xz", "--stdout", ...options], { input: "a disk" });
}

/** A frame whose size is not known at its start, so that its header has a window: that of the level. */
function zstd(windowLog: number): Buffer {
  const frame = zstdCompressSync("a disk", { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } });
  frame[5] = (windowLog - 10) << 3;
  return frame;
}

describe("the window of a compressed file", () => {
  it.each([
    ["xz -1", xz("-1"), MIB],
    ["xz", xz(), 8 * MIB],
    ["xz -9", xz("-9"), 64 * MIB],
    ["xz with a dictionary of 1.5 GiB", xz("--lzma2=preset=0,dict=1536MiB"), 1536 * MIB],
    ["xz with a dictionary between powers of two", xz("--lzma2=preset=0,dict=3MiB"), 3 * MIB],
    ["xz behind another filter", xz("--x86", "--delta=dist=4", "--lzma2=preset=7"), 16 * MIB],
  ])("is what its header says: %s", (_, file, expected) => {
    expect(windowBytesOf("xz", file)).toBe(expected);
  });

  it.each([10, 23, 27])("is what a frame of zstd says: 2^%d", (log) => {
    expect(windowBytesOf("zstd", zstd(log))).toBe(2 ** log);
  });

  it("is a fraction of a power of two, and with all content in one segment that", () => {
    const windowed = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, (17 << 3) | 3]);
    expect(windowBytesOf("zstd", windowed)).toBe(128 * MIB * (1 + 3 / 8));
    const segment = (flags: number, ...size: number[]) =>
      windowBytesOf("zstd", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, flags, ...size]));
    expect(segment(0x20, 200)).toBe(200);
    expect(segment(0x60, 0, 1)).toBe(512);
    expect(segment(0xa1, 7, 0, 0, 0, 0x60)).toBe(1536 * MIB);
    expect(segment(0xe0, 0, 0, 0, 0, 1, 0, 0, 0)).toBe(2 ** 32);
  });

  it("is not known of gzip, of an empty file, and of a header that is cut short at whatever byte", () => {
    expect(windowBytesOf("gzip", gzipSync("a disk"))).toBeUndefined();
    expect(windowBytesOf("xz", execFileSync("xz", ["--stdout"], { input: "" }))).toBeUndefined();
    for (let length = 0; length < 16; length++) expect(windowBytesOf("xz", xz().subarray(0, length))).toBeUndefined();
    for (let length = 0; length < 6; length++)
      expect(windowBytesOf("zstd", zstd(20).subarray(0, length))).toBeUndefined();
  });
});

describe("a window that is too large", () => {
  it("is one that the import's memory has no room for beside its own", () => {
    expect([0, 40, 64, 79, 80, 112, 2 ** 20].map((mib) => windowLimitBytes(mib * MIB) / MIB)).toEqual([
      8, 8, 16, 16, 32, 64, 2048,
    ]);
  });

  it("is refused with both figures and the ways out, the second of which is right", () => {
    const file = xz("-9");
    const message =
      "the file is in xz with a window of 67108864 bytes, and the import has memory for one of 16777216 (16Mi); compress it with a smaller one (`xz -6`), or give the import memory (requests.memory: 112Mi)";
    expect(() => checkWindow("xz", file, windowLimitBytes(64 * MIB))).toThrow(message);
    expect(() => checkWindow("xz", file, windowLimitBytes(112 * MIB))).not.toThrow();
    expect(() => checkWindow("xz", file, windowLimitBytes(111 * MIB))).toThrow("67108864");
  });

  it("has no other way out where nobody would give so much memory", () => {
    const file = xz("--lzma2=preset=0");
    // The largest that the format has.
    file[16] = 40;
    expect(windowBytesOf("xz", file)).toBe(2 ** 32 - 1);
    expect(() => checkWindow("xz", file, windowLimitBytes(64 * MIB))).toThrow(/4294967295 .*\(`xz -6`\)$/);
  });
});
