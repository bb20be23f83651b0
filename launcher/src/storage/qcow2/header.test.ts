import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, jest } from "@jest/globals";
import { DiskError } from "../disk-error.ts";
import { describeHeader, HEADER_READ_BYTES, parseHeader } from "./header.ts";
import { qemu } from "./testing/corpus.ts";

// Images are made by another program.
jest.setTimeout(60_000);

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "qcow2-header-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

/** Makes an empty image of `size` with options of `qemu-img create`; answers its bytes. */
function make(options: readonly string[], size = "10M"): Uint8Array {
  const path = join(directory, "image.qcow2");
  qemu("qemu-img", "create", "-q", "-f", "qcow2", ...options, path, size);
  return new Uint8Array(readFileSync(path));
}

const parse = (image: Uint8Array, fileBytes = image.length) =>
  parseHeader("root", image.subarray(0, HEADER_READ_BYTES), fileBytes);

/** As big-endian numbers of 32 bits. */
function withWords(image: Uint8Array, words: Record<number, number>): Uint8Array {
  const view = new DataView(image.buffer);
  for (const [at, value] of Object.entries(words)) view.setUint32(Number(at), value);
  return image;
}

function expectRefusal(image: Uint8Array, message: RegExp, fileBytes?: number) {
  expect(() => parse(image, fileBytes)).toThrow(DiskError);
  expect(() => parse(image, fileBytes)).toThrow(message);
}

const VERSION = 4;
const BACKING_OFFSET_LOW = 12;
const CLUSTER_BITS = 20;
const SIZE_HIGH = 24;
const SIZE_LOW = 28;
const ENCRYPTION = 32;
const L1_ENTRIES = 36;
const L1_OFFSET_LOW = 44;
const FEATURES_HIGH = 72;
const FEATURES_LOW = 76;
const HEADER_LENGTH = 100;
const COMPRESSION_WORD = 104;

describe("a qcow2 header", () => {
  it.each([
    ["compat=0.10", { version: 2, clusterBytes: 65536, l2Entries: 8192, l1Entries: 1, compression: "zlib" }],
    ["compat=1.1,cluster_size=512", { version: 3, clusterBytes: 512, l2Entries: 64, l1Entries: 320 }],
    ["cluster_size=2M,compression_type=zstd", { clusterBytes: 2097152, compression: "zstd", hasExtendedL2: false }],
    ["extended_l2=on", { hasExtendedL2: true, subclusterBytes: 2048, l2Entries: 4096, l2EntryBytes: 16 }],
  ])("made with %s is read", (options, expected) => {
    expect(parse(make(["-o", options]))).toMatchObject({ sizeBytes: 10 << 20, ...expected });
  });

  it("is described as qemu-img info does", () => {
    const image = make(["-o", "compat=1.1,extended_l2=on"]);
    expect(describeHeader(parse(image))).toBe(
      `qcow2 version 3, 10485760 bytes in a file of ${image.length}, clusters of 65536, zlib, extended L2 entries`,
    );
  });

  it("may say that its reference counts are stale: they are for writers", () => {
    expect(parse(withWords(make([]), { [FEATURES_LOW]: 1 })).sizeBytes).toBe(10 << 20);
  });

  it("of another size than whole sectors is rounded up to them", () => {
    expect(parse(withWords(make([]), { [SIZE_LOW]: 1025 })).sizeBytes).toBe(1536);
  });
});

describe("an image that cannot be a disk by itself is refused", () => {
  it("with a backing file, by its name and with the way out", () => {
    writeFileSync(join(directory, "base.raw"), new Uint8Array(1 << 20));
    const image = make(["-b", join(directory, "base.raw"), "-F", "raw"]);
    expectRefusal(
      image,
      /^disk root: the image's qcow2 disk has a backing file \(\/.*\/base\.raw\), and an image must be whole; merge both into one with `qemu-img convert -O qcow2`$/,
    );
    // Names come from whoever made the image.
    image.fill(0x1b, new DataView(image.buffer).getUint32(BACKING_OFFSET_LOW) + 1);
    expectRefusal(image, /has a backing file \(\/\?+\)/);
    expectRefusal(withWords(image, { [BACKING_OFFSET_LOW]: 0x7fffffff }), /has a backing file, and/);
  });

  it("with its data in another file, by its name", () => {
    const image = make(["-o", `data_file=${join(directory, "data.raw")},data_file_raw=on`]);
    expectRefusal(
      image,
      /has its data in another file \(\/.*\/data\.raw\); convert it with `qemu-img convert -O qcow2`/,
    );
  });

  it("when it is encrypted", () => {
    expectRefusal(withWords(make([]), { [ENCRYPTION]: 2 }), /is encrypted \(method 2\); decrypt it with `qemu-img/);
  });

  it("when it is marked as corrupt", () => {
    expectRefusal(
      withWords(make([]), { [FEATURES_LOW]: 2 }),
      /is marked as corrupt; repair it with `qemu-img check -r/,
    );
  });

  it("with features that nobody here knows, by the names that it gives them", () => {
    const image = withWords(make([]), { [FEATURES_LOW]: 1 << 9, [FEATURES_HIGH]: 1 << 3 });
    expectRefusal(image, /needs features that this version does not know: bit 9, bit 35; convert it/);
    // The table of names has one for bit 1.
    const at = Buffer.from(image).indexOf("corrupt bit");
    image[at - 1] = 9;
    expectRefusal(image, /does not know: corrupt bit \(bit 9\), bit 35;/);
  });

  it.each<[string, Record<number, number>, RegExp]>([
    ["a version to come", { [VERSION]: 4 }, /has version 4, not 2 or 3/],
    ["clusters too small", { [CLUSTER_BITS]: 8 }, /has clusters of 2\^8 bytes/],
    ["clusters too large", { [CLUSTER_BITS]: 22 }, /has clusters of 2\^22 bytes/],
    ["no size", { [SIZE_LOW]: 0 }, /has a size of 0 bytes/],
    ["a size beyond all disks", { [SIZE_HIGH]: 0x10000 }, /has a size of 281474987196416 bytes, not up to 64 TiB/],
    ["more size than its table has entries", { [SIZE_HIGH]: 1 }, /its L1 table has 1 entries, and 9 are needed/],
    ["a table beyond its end", { [L1_OFFSET_LOW]: 0x7fff0000 }, /its L1 table at 2147418112 is not inside its/],
    ["a table in its header", { [L1_OFFSET_LOW]: 0 }, /its L1 table at 0 is not inside/],
    ["a table between clusters", { [L1_OFFSET_LOW]: 0x30200 }, /its L1 table at 197120 is not inside/],
    ["extended entries for tiny clusters", { [CLUSTER_BITS]: 13, [FEATURES_LOW]: 16 }, /below 16 KiB/],
    ["a header without length", { [HEADER_LENGTH]: 0 }, /damaged header \(its length/],
    ["a header longer than the file", { [HEADER_LENGTH]: 0xfffffff8 }, /damaged header \(its length/],
    ["a compression that is not announced", { [COMPRESSION_WORD]: 0x01000000 }, /compression type and features differ/],
    ["a compression that is only announced", { [FEATURES_LOW]: 8 }, /compression type and features differ/],
    ["a compression to come", { [FEATURES_LOW]: 8, [COMPRESSION_WORD]: 0x02000000 }, /does not know \(type 2\)/],
    [
      "a table larger than memory should hold",
      { [CLUSTER_BITS]: 9, [SIZE_HIGH]: 0x3fff, [L1_ENTRIES]: 0xffffffff },
      /in clusters of 512, too small for as much; convert it/,
    ],
  ])("with %s", (_what, words, message) => expectRefusal(withWords(make([]), words), message));

  it("when it ends in its header", () => {
    const image = make([]);
    for (const length of [8, 71, 72, 103]) expectRefusal(image.subarray(0, length), /qcow2 disk .*header/, length);
  });
});
