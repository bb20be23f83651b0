import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { openFile } from "../sys/file-io.ts";
import { decodeRecord, encodeRecord, RecordFile, sourceDigest, type TransferRecord } from "./transfer-record.ts";

const record: TransferRecord = { source: "of a URL", validator: '"v1"', totalBytes: null, durableBytes: 2 ** 40 };

let volume: string;
let cleanup: DisposableStack;
beforeEach(() => {
  cleanup = new DisposableStack();
  volume = mkdtempSync(join(tmpdir(), "import-record-"));
  cleanup.defer(() => rmSync(volume, { recursive: true }));
});
afterEach(() => cleanup.dispose());

const recordFile = () => new RecordFile(cleanup.use(openFile(volume)).fd);
const path = () => join(volume, "disk.img.import");

describe("the record of a transfer", () => {
  it("is read as it was written, each time anew", async () => {
    await recordFile().write({ ...record, durableBytes: 1, validator: "x".repeat(10_000) });
    await recordFile().write(record);
    expect(recordFile().read()).toEqual(record);
    expect(readdirSync(volume)).toEqual(["disk.img.import"]);
  });

  it("is none where it is torn at whatever byte, damaged, or of another version", () => {
    const whole = encodeRecord(record);
    for (let length = 0; length < whole.length; length++)
      expect(decodeRecord(whole.subarray(0, length))).toBeUndefined();
    for (let at = 0; at < whole.length - 1; at++) {
      if (at === 64) continue; // what parts digest and body
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      expect(decodeRecord(damaged)).toBeUndefined();
    }
    expect(decodeRecord(whole)).toEqual(record);
  });

  it("is none where something else has its name, and that is not followed", async () => {
    expect(recordFile().read()).toBeUndefined();
    const elsewhere = join(volume, "elsewhere");
    writeFileSync(elsewhere, encodeRecord(record));
    symlinkSync(elsewhere, path());
    expect(recordFile().read()).toBeUndefined();
    await recordFile().write({ ...record, durableBytes: 5 });
    expect(readFileSync(elsewhere).equals(encodeRecord(record))).toBe(true);
    expect(recordFile().read()).toMatchObject({ durableBytes: 5 });
    rmSync(path());
    mkdirSync(path());
    expect(recordFile().read()).toBeUndefined();
    rmSync(path(), { recursive: true });
    writeFileSync(path(), Buffer.alloc(2 ** 20));
    expect(recordFile().read()).toBeUndefined();
  });

  it("is gone once it is forgotten, with one that was being written", async () => {
    await recordFile().write(record);
    writeFileSync(`${path()}.new`, "half");
    recordFile().forget();
    recordFile().forget();
    expect(readdirSync(volume)).toEqual([]);
  });

  it("knows sources apart, and tells nothing of them", () => {
    const url = "https://cloud.example/disk.img?token=secret";
    const checksum = { algorithm: "sha256", digest: "AB" } as const;
    const digests = [
      sourceDigest({ kind: "http", url }),
      sourceDigest({ kind: "http", url: `${url}2` }),
      sourceDigest({ kind: "http", url, checksum }),
      sourceDigest({ kind: "http", url, checksum: { ...checksum, digest: "CD" } }),
    ];
    expect(new Set(digests).size).toBe(4);
    expect(sourceDigest({ kind: "http", url, checksum: { ...checksum, digest: "ab" } })).toBe(digests[2]);
    expect(digests.join()).not.toContain("secret");
  });
});
