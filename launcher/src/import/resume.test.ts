import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { ImportSource } from "../../api/import.ts";
import { recordingLog } from "../testing/recording-log.ts";
import { until } from "../testing/until.ts";
import { defaultDownloadLimits } from "./http-download.ts";
import { ProgressMeter } from "./progress.ts";
import { runImport } from "./run-import.ts";
import { type Answer, OddServer, serve, status } from "./testing/odd-server.ts";
import { decodeRecord, encodeRecord } from "./transfer-record.ts";

const MIB = 2 ** 20;
/** What is on record of the first transfer: behind a part of zeroes, and before the break. */
const KEPT_BYTES = 3 * MIB;
const disk = Buffer.alloc(6 * MIB + 700);
for (const at of [0, MIB + 9, 4 * MIB, 5 * MIB, disk.length - 100]) randomBytes(100).copy(disk, at);
const sha256 = (file: Uint8Array) =>
  ({ algorithm: "sha256", digest: createHash("sha256").update(file).digest("hex") }) as const;

let volume: string;
beforeEach(() => {
  volume = mkdtempSync(join(tmpdir(), "import-resume-"));
});
afterEach(() => rmSync(volume, { recursive: true }));

const diskPath = () => join(volume, "disk.img");
const recordPath = () => `${diskPath()}.import`;
const imported = () => readFileSync(diskPath());

async function runOnce(source: ImportSource, signal?: AbortSignal, progress = new ProgressMeter()) {
  const config = {
    version: 1,
    source,
    target: { kind: "directory", path: volume, sizeBytes: 8 * MIB },
    scratchDirectory: volume,
    log: { level: "info" },
  } as const;
  const parts = {
    progress,
    log: recordingLog().log,
    openDevice: () => Promise.reject(new Error("there is no device")),
    downloadLimits: { ...defaultDownloadLimits, attempts: 2, patienceMs: 0, backOffMs: 1 },
    checkpointBytes: KEPT_BYTES,
    ...(signal === undefined ? {} : { signal }),
  };
  await runImport(config, parts);
  return progress.snapshot();
}

type More = Partial<Extract<ImportSource, { kind: "http" }>>;

/** An import that ends in the middle, with `KEPT_BYTES` on record; then one by `answers`. */
async function takeUp(answers: readonly Answer[], options: { more?: More; file?: Buffer; between?: () => void } = {}) {
  const { more = {}, file = disk, between } = options;
  await using server = await OddServer.start(serve(file, { hangAfter: 4.5 * MIB }), ...answers);
  const source = { kind: "http", url: server.url, ...more } as const;
  const stop = new AbortController();
  const first = runOnce(source, stop.signal);
  first.catch(() => undefined);
  await until(() => readdirSync(volume).includes("disk.img.import"));
  stop.abort();
  await expect(first).rejects.toThrow();
  between?.();
  const progress = await runOnce(source);
  return { progress, ranges: server.requests.slice(1).map(({ headers }) => headers.range) };
}

describe("an import that another one began", () => {
  it.each<[string, More]>([
    ["", {}],
    [", with a checksum over all bytes", { checksum: sha256(disk) }],
  ])("goes on where the record says%s, and leaves nothing but the disk", async (_, more) => {
    // What was on its way when the first one ended.
    const between = () => writeFileSync(diskPath(), Buffer.alloc(MIB, 0xff), { flag: "a" });
    const { progress, ranges } = await takeUp([serve(disk)], { more, between });
    expect(ranges).toStrictEqual([`bytes=${KEPT_BYTES}-`]);
    expect(imported().subarray(0, disk.length).equals(disk)).toBe(true);
    expect(imported().length).toBe(Math.ceil(disk.length / 512) * 512);
    expect(progress).toMatchObject({ doneBytes: disk.length, totalBytes: disk.length, format: "raw", resumed: 1 });
    expect(readdirSync(volume)).toEqual(["disk.img"]);
    expect(statSync(diskPath()).blocks * 512).toBeLessThan(MIB);
  });

  it("goes on with a server that knows no ranges, and past one that is away", async () => {
    const { ranges } = await takeUp([status(503), serve(disk, { ignoresRanges: true })]);
    expect(ranges).toHaveLength(2);
    expect(imported().subarray(0, disk.length).equals(disk)).toBe(true);
  });

  it("asks for nothing where all is there already", async () => {
    const file = Buffer.alloc(2 * KEPT_BYTES);
    for (let at = 0; at < file.length; at += MIB) file.writeUInt32LE(at + 1, at);
    // The last record was made, and then it ended: as when the volume is slow to make all durable.
    const between = () => {
      const left = decodeRecord(readFileSync(recordPath()));
      if (left === undefined) throw new Error("there is no record");
      writeFileSync(diskPath(), file);
      writeFileSync(recordPath(), encodeRecord({ ...left, durableBytes: file.length }));
    };
    const { ranges } = await takeUp([status(500)], { file, between, more: { checksum: sha256(file) } });
    expect(ranges).toHaveLength(0);
    expect(imported().equals(file)).toBe(true);
  });

  const other = Buffer.alloc(6 * MIB + 700, 9);
  it.each<[string, Answer[], { more?: More; between?: () => void }]>([
    ["another version at the server", [serve(other, { etag: '"v2"' })], {}],
    ["a shorter file at the server", [status(416), serve(other)], {}],
    ["a server that answers with another range", [wrongRange, serve(other)], {}],
    ["content that is not the checksum's", [serve(other), serve(other)], { more: { checksum: sha256(other) } }],
    [
      "a file that is shorter than its record",
      [serve(other)],
      { between: () => truncateSync(diskPath(), KEPT_BYTES - 1) },
    ],
    ["a record that is torn", [serve(other)], { between: () => truncateSync(recordPath(), 80) }],
    ["no record", [serve(other)], { between: () => rmSync(recordPath()) }],
  ])("begins anew with %s", async (_, answers, options) => {
    const { ranges, progress } = await takeUp(answers, options);
    expect(ranges.at(-1)).toBeUndefined();
    expect(imported().subarray(0, other.length).equals(other)).toBe(true);
    expect(progress.doneBytes).toBe(other.length);
  });

  it("begins anew with another source, and the record is gone before that writes", async () => {
    await using server = await OddServer.start(serve(other, { hangAfter: MIB }));
    const seen: boolean[] = [];
    const source = { kind: "http", url: `${server.url}?other` } as const;
    const stop = new AbortController();
    const between = async () => {
      const second = runOnce(source, stop.signal);
      second.catch(() => undefined);
      await until(() => server.requests.length > 0);
      seen.push(readdirSync(volume).includes("disk.img.import"));
      stop.abort();
      await second.catch(() => undefined);
    };
    await using first = await OddServer.start(serve(disk, { hangAfter: 4.5 * MIB }), serve(disk));
    const begun = new AbortController();
    const beginning = runOnce({ kind: "http", url: first.url }, begun.signal);
    beginning.catch(() => undefined);
    await until(() => readdirSync(volume).includes("disk.img.import"));
    begun.abort();
    await beginning.catch(() => undefined);
    await between();
    expect(seen).toEqual([false]);
    expect(server.requests[0]?.headers.range).toBeUndefined();
    await runOnce({ kind: "http", url: first.url });
    expect(first.requests[1]?.headers.range).toBeUndefined();
    expect(imported().subarray(0, disk.length).equals(disk)).toBe(true);
  });
});

describe("nothing is on record", () => {
  it.each<[string, Buffer, string]>([
    ["of a compressed file, whose bytes are not the disk's", gzipSync(disk, { level: 0 }), '"v1"'],
    ["of a file that nothing tells apart from another", disk, ""],
  ])("%s", async (_, file, etag) => {
    await using server = await OddServer.start(serve(file, { etag, hangAfter: 4.5 * MIB }));
    const stop = new AbortController();
    const progress = new ProgressMeter();
    const outcome = runOnce({ kind: "http", url: server.url }, stop.signal, progress);
    outcome.catch(() => undefined);
    await until(() => progress.doneBytes === 4.5 * MIB);
    stop.abort();
    await outcome.catch(() => undefined);
    expect(readdirSync(volume)).toEqual(["disk.img"]);
  });
});

function wrongRange(...[, response]: Parameters<Answer>): void {
  response.writeHead(206, { "Content-Range": "bytes 5-9/10", "Content-Length": 5, ETag: '"v1"' }).end("wrong");
}
