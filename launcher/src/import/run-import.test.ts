import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { constants, gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "@jest/globals";
import type { ImportConfig, ImportSource } from "../../api/import.ts";
import { openFile } from "../sys/file-io.ts";
import { lockFile } from "../sys/file-lock.ts";
import { recordingLog } from "../testing/recording-log.ts";
import { type DownloadLimits, defaultDownloadLimits } from "./http-download.ts";
import { ProgressMeter } from "./progress.ts";
import { runImport } from "./run-import.ts";
import { type Answer, OddServer, serve, status } from "./testing/odd-server.ts";

const MIB = 2 ** 20;
const limits: DownloadLimits = {
  ...defaultDownloadLimits,
  attempts: 3,
  patienceMs: 0,
  backOffMs: 1,
  headersMs: 500,
  idleMs: 300,
  slowWindowMs: 50,
  slowBytes: 100,
};
const directory = mkdtempSync(join(tmpdir(), "typevisor-import-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** 5 MiB and a bit, with holes between what is not zero. */
const disk = Buffer.alloc(5 * MIB + 1024);
for (const at of [0, 300_000, 2 * MIB, 4 * MIB + 5, disk.length - 1024]) randomBytes(1024).copy(disk, at);
randomBytes(MIB).copy(disk, 3 * MIB);

let volume: string;
let scratch: string;
let count = 0;
beforeEach(() => {
  count += 1;
  volume = join(directory, `volume-${count}`);
  scratch = join(directory, `scratch-${count}`);
  mkdirSync(volume);
  mkdirSync(scratch);
});

function configOf(source: ImportSource, sizeBytes = 8 * MIB): ImportConfig {
  return {
    version: 1,
    source,
    target: { kind: "directory", path: volume, sizeBytes },
    scratchDirectory: scratch,
    log: { level: "info" },
  };
}

async function importFrom(
  source: ImportSource,
  sizeBytes?: number,
  { progress = new ProgressMeter(), patienceMs = 0 }: { progress?: ProgressMeter; patienceMs?: number } = {},
) {
  const openDevice = async () => {
    throw new Error("there is no device");
  };
  const parts = { progress, log: recordingLog().log, openDevice, downloadLimits: { ...limits, patienceMs } };
  await runImport(configOf(source, sizeBytes), parts);
  return progress.snapshot();
}

async function download(
  answers: readonly Answer[],
  more: Partial<Extract<ImportSource, { kind: "http" }>> = {},
  sizeBytes?: number,
) {
  await using server = await OddServer.start(...answers);
  const progress = await importFrom({ kind: "http", url: server.url, ...more }, sizeBytes);
  return { progress, requests: server.requests };
}

const xzOf = (option: string, content = disk) =>
  execFileSync("xz", [option, "--stdout"], { input: content, maxBuffer: 64 * MIB });

/** One frame, whose header claims the window: the size of what is in it is left out. */
function zstdOf(windowLog: number, content = disk): Buffer {
  const frame = zstdCompressSync(content, { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } });
  frame[5] = (windowLog - 10) << 3;
  return frame;
}

const imported = () => readFileSync(join(volume, "disk.img"));
const checksumOf = (file: Uint8Array) =>
  ({ algorithm: "sha256", digest: createHash("sha256").update(file).digest("hex") }) as const;

describe("a file of a server", () => {
  const files: Record<string, Buffer> = {};
  beforeAll(() => {
    const raw = join(directory, "disk.raw");
    writeFileSync(raw, disk);
    const converted = (name: string, ...args: string[]) => {
      const path = join(directory, name);
      execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", ...args, raw, path]);
      return readFileSync(path);
    };
    files["raw"] = disk;
    files["raw in gzip"] = gzipSync(disk);
    files["raw in zstd"] = zstdCompressSync(disk);
    files["raw in xz"] = execFileSync("xz", ["--stdout", raw], { maxBuffer: 64 * MIB });
    files["qcow2"] = converted("plain.qcow2");
    files["qcow2 of 512"] = converted("small.qcow2", "-o", "cluster_size=512");
    files["qcow2 of 2M"] = converted("large.qcow2", "-o", "cluster_size=2M");
    files["qcow2 extended"] = converted("extended.qcow2", "-o", "extended_l2=on");
    files["qcow2 version 2"] = converted("v2.qcow2", "-o", "compat=0.10");
    files["qcow2 zlib"] = converted("zlib.qcow2", "-c");
    files["qcow2 zstd"] = converted("zstd.qcow2", "-c", "-o", "compression_type=zstd");
    files["qcow2 in gzip"] = gzipSync(files["qcow2"]);
    files["qcow2 in xz"] = execFileSync("xz", ["--stdout", join(directory, "plain.qcow2")], { maxBuffer: 64 * MIB });
  });
  const names = ["raw", "raw in gzip", "raw in zstd", "raw in xz", "qcow2", "qcow2 of 512", "qcow2 of 2M"];
  const more = ["qcow2 extended", "qcow2 version 2", "qcow2 zlib", "qcow2 zstd", "qcow2 in gzip", "qcow2 in xz"];

  it.each([...names, ...more])("becomes the raw disk: %s", async (name) => {
    const file = files[name] ?? Buffer.alloc(0);
    const { progress } = await download([serve(file)], { checksum: checksumOf(file) });
    expect(imported().equals(disk)).toBe(true);
    expect(progress).toMatchObject({ doneBytes: file.length, totalBytes: file.length, diskBytes: disk.length });
    expect(progress.format).toBe(/^\w+(?: in \w+)?/.exec(name)?.[0]);
    // What is zero takes no room.
    expect(statSync(join(volume, "disk.img")).blocks * 512).toBeLessThan(2 * MIB);
  });

  it.each(["raw", "raw in xz", "qcow2", "qcow2 zlib"])(
    "arrives whole over connections that break: %s",
    async (name) => {
      const file = files[name] ?? Buffer.alloc(0);
      const breakAfter = Math.ceil(file.length / 5);
      const { progress, requests } = await download([serve(file, { breakAfter })], { checksum: checksumOf(file) });
      expect(imported().equals(disk)).toBe(true);
      expect(progress.resumed).toBeGreaterThanOrEqual(4);
      expect(requests[1]?.headers).toMatchObject({
        range: expect.stringMatching(/^bytes=[1-9]\d*-$/),
        "if-range": '"v1"',
      });
    },
  );

  it("arrives whole from a server that hangs, and from one that knows no ranges", async () => {
    const answers = [serve(disk, { hangAfter: 100_000 }), serve(disk, { ignoresRanges: true })];
    const { progress } = await download(answers);
    expect(imported().equals(disk)).toBe(true);
    expect(progress.resumed).toBe(1);
  });

  it("waits for a server that is away once some of the file is there, says so meanwhile, and then goes on", async () => {
    const progress = new ProgressMeter();
    const seen: unknown[] = [];
    const unavailable = status(503);
    const away: Answer = (...asked) => {
      seen.push(progress.snapshot().trouble);
      return unavailable(...asked);
    };
    const answers = [serve(disk, { breakAfter: 100_000 }), away, away, away, away, away, serve(disk)];
    await using server = await OddServer.start(...answers);
    const source = { kind: "http", url: server.url, checksum: checksumOf(disk) } as const;
    const end = await importFrom(source, undefined, { progress, patienceMs: 60_000 });
    expect(imported().equals(disk)).toBe(true);
    expect(seen.length).toBe(5);
    expect(seen.at(-1)).toMatchObject({
      reason: "SourceIncomplete",
      message: expect.stringMatching(/answers 503 .* after 100000 of \d+ bytes, 5 times in a row/),
    });
    expect(end.trouble).toBeUndefined();
    expect(server.requests.at(-1)?.headers.range).toBe("bytes=100000-");
  });

  it("arrives after errors that pass", async () => {
    await download([status(503, { "Retry-After": "0" }), status(429), serve(disk)]);
    expect(imported().equals(disk)).toBe(true);
  });

  it("is rounded up to whole sectors", async () => {
    await download([serve(Buffer.from("a boot sector, nearly"))]);
    expect(imported().length).toBe(512);
  });

  it("replaces what an import before it left", async () => {
    writeFileSync(join(volume, "disk.img"), Buffer.alloc(7 * MIB, 0xff));
    await download([serve(files["qcow2"] ?? disk)]);
    expect(imported().equals(disk)).toBe(true);
  });

  it.each<[string, Answer[], object, string, RegExp]>([
    ["an absent file", [status(404)], {}, "SourceRefused", /answers 404 Not Found for http:.*disk.img; check the URL/],
    ["no right", [status(403)], {}, "SourceRefused", /check the credentials/],
    ["a lasting error", [status(500)], {}, "SourceRefused", /answers 500 .*, 3 times in a row/],
    ["redirects without end", [status(302, { Location: "/again" })], {}, "SourceRefused", /more than 10 times/],
    ["a redirect elsewhere", [status(302, { Location: "file:///etc/passwd" })], {}, "SourceRefused", /no HTTP address/],
    ["a hang before the answer", [() => undefined], {}, "SourceUnreachable", /did not answer within 0.5 s/],
    ["a hang again and again", [serve(disk, { hangAfter: 0 })], {}, "SourceUnreachable", /silent for 0.3 s, 3 times/],
    [
      "a length that is too long",
      [serve(disk, { length: disk.length + 1000 })],
      {},
      "SourceIncomplete",
      new RegExp(`after ${disk.length} of ${disk.length + 1000} bytes, 3 times`),
    ],
    [
      "a length that is too short",
      [serve(disk.subarray(0, 4096))],
      { checksum: checksumOf(disk) },
      "ChecksumMismatch",
      new RegExp(`${checksumOf(disk.subarray(0, 4096)).digest}, and ${checksumOf(disk).digest} was expected`),
    ],
    [
      "another file in the middle",
      [serve(disk, { breakAfter: 100_000 }), serve(disk, { etag: '"v2"' })],
      {},
      "SourceChanged",
      /became another one after 100000 bytes .*"v1"; now .*"v2"/,
    ],
    [
      "a shorter file in the middle",
      [serve(disk, { breakAfter: 100_000 }), status(416)],
      {},
      "SourceChanged",
      /shorter than it was/,
    ],
    [
      "a break without a version",
      [serve(disk, { etag: "", breakAfter: 100_000 })],
      {},
      "SourceIncomplete",
      /neither ETag nor Last-Modified.*give a checksum/,
    ],
    ["a wrong checksum", [serve(disk)], { checksum: checksumOf(Buffer.from("x")) }, "ChecksumMismatch", /was expected/],
    [
      "an encoding",
      [(_, response) => response.writeHead(200, { "Content-Encoding": "br" }).end("x")],
      {},
      "SourceInvalid",
      /Content-Encoding: br/,
    ],
    ["an empty file", [serve(Buffer.alloc(0))], {}, "SourceInvalid", /empty/],
    ["a web page", [serve(Buffer.from("<!DOCTYPE html><html>"))], {}, "SourceInvalid", /web page/],
    ["a VMDK", [serve(Buffer.from("KDMV and more"))], {}, "FormatUnsupported", /VMDK format.*qemu-img convert/],
    ["gzip in gzip", [serve(gzipSync(gzipSync(disk)))], {}, "FormatUnsupported", /compressed twice/],
    [
      "half a gzip",
      [serve(gzipSync(disk).subarray(0, 500_000))],
      {},
      "SourceInvalid",
      /gzip says "unexpected end of file"/,
    ],
    ["half a zstd", [serve(zstdCompressSync(disk).subarray(0, 500_000))], {}, "SourceInvalid", /zstd says/],
    [
      "an xz that is none",
      [serve(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2, 3, 4, 5, 6, 7]))],
      {},
      "SourceInvalid",
      /xz says/,
    ],
  ])("is refused with the figure that is wrong: %s", async (_what, answers, more, reason, message) => {
    const outcome = download(answers, more);
    await expect(outcome).rejects.toMatchObject({ reason, message: expect.stringMatching(message) });
  });

  it.each<[string, () => Buffer, RegExp]>([
    [
      "xz whose header claims 1.5 GiB",
      () => xzOf("--lzma2=preset=0,dict=1536MiB", disk.subarray(0, 1000)),
      /in xz with a window of 1610612736 bytes, .* for one of 16777216 \(16Mi\)/,
    ],
    [
      "xz that has a small block first",
      () => Buffer.concat([xzOf("-0", disk.subarray(0, MIB)), xzOf("-9")]),
      /in xz with a larger window, .* for one of 16777216/,
    ],
    ["zstd --long", () => zstdOf(27), /in zstd with a window of 134217728 bytes.*memory: 176Mi/],
    [
      "zstd that has a small frame first",
      () => Buffer.concat([zstdOf(20, disk.subarray(0, MIB)), zstdOf(27)]),
      /in zstd with a larger window, .* for one of 16777216/,
    ],
  ])("is refused with a window that there is no memory for: %s", async (_what, file, message) => {
    const outcome = download([serve(file())]);
    await expect(outcome).rejects.toMatchObject({
      reason: "FormatUnsupported",
      message: expect.stringMatching(message),
    });
  });

  it("says which part of a qcow2 file is damaged", async () => {
    const raw = join(directory, "text.raw");
    writeFileSync(raw, randomBytes(MIB).toString("hex"));
    const path = join(directory, "text.qcow2");
    execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-c", raw, path]);
    const file = readFileSync(path);
    file.fill(0xee, file.length - 70_000, file.length - 1_000);
    const message = expect.stringMatching(/byte \d+ of the disk names a zlib cluster that cannot be decompressed/);
    await expect(download([serve(file)])).rejects.toMatchObject({ reason: "SourceInvalid", message });
    const short = (files["qcow2"] ?? disk).subarray(0, MIB);
    await expect(download([serve(short)])).rejects.toMatchObject({ reason: "SourceInvalid" });
  });

  describe("larger than what is kept of it in memory", () => {
    const large = Buffer.alloc(24 * MIB);
    for (let at = 0; at < large.length; at += 48 * 1024) randomBytes(32 * 1024).copy(large, at);
    const path = join(directory, "large.qcow2");
    const make = (...args: string[]) => {
      const raw = join(directory, "large.raw");
      writeFileSync(raw, large);
      execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", ...args, raw, path]);
      return readFileSync(path);
    };
    /** Not one that goes on where the one before fell silent, as on a busy machine. */
    const isWhole = ({ headers }: { headers: object }) => !("range" in headers);
    /** As qemu-img reads it. */
    const expected = (file: Uint8Array) => {
      writeFileSync(path, file);
      execFileSync("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", path, `${path}.raw`]);
      return readFileSync(`${path}.raw`);
    };

    it.each([
      ["as it is", []],
      ["with zlib", ["-c"]],
      ["with zstd, clusters of 512", ["-c", "-o", "compression_type=zstd,cluster_size=512"]],
      ["with clusters of 2M", ["-c", "-o", "cluster_size=2M"]],
    ])("a qcow2 file is fetched once: %s", async (_, args) => {
      const file = make(...args);
      const { requests } = await download([serve(file)], { checksum: checksumOf(file) }, 32 * MIB);
      expect(imported().equals(large)).toBe(true);
      expect(requests.filter(isWhole)).toHaveLength(1);
    });

    it("a qcow2 file that has one cluster at two places of the disk is fetched again, and kept", async () => {
      const file = make();
      const table = Number(file.readBigUInt64BE(Number(file.readBigUInt64BE(40))) & 0x00ff_ffff_ffff_fe00n);
      const [once, again] = [table + 8 * 100, table + 8 * (large.length / 65_536 - 1)];
      file.copy(file, again, once, once + 8);
      const { requests, progress } = await download([serve(file)], { checksum: checksumOf(file) }, 32 * MIB);
      expect(imported().equals(expected(file))).toBe(true);
      expect(imported().equals(large)).toBe(false);
      expect(requests.filter(isWhole)).toHaveLength(2);
      expect(progress).toMatchObject({ doneBytes: file.length, totalBytes: file.length });
    });

    it("a qcow2 file in reverse order goes through scratch", async () => {
      const file = make();
      const table = Number(file.readBigUInt64BE(Number(file.readBigUInt64BE(40))) & 0x00ff_ffff_ffff_fe00n);
      const clusters = large.length / 65_536;
      const entries = Array.from({ length: clusters }, (_, i) => file.readBigUInt64BE(table + 8 * i)).reverse();
      entries.forEach((entry, i) => void file.writeBigUInt64BE(entry, table + 8 * i));
      const { requests } = await download([serve(file)], { checksum: checksumOf(file) }, 32 * MIB);
      expect(imported().equals(expected(file))).toBe(true);
      expect(requests.filter(isWhole)).toHaveLength(1);
    });
  });

  it("refuses a qcow2 file that needs another file", async () => {
    const path = join(directory, "child.qcow2");
    const backing = ["-b", join(directory, "plain.qcow2"), "-F", "qcow2"];
    execFileSync("qemu-img", ["create", "-f", "qcow2", ...backing, path]);
    const message = expect.stringMatching(/^the qcow2 file has a backing file \(.*plain.qcow2\).*merge both/);
    const outcome = download([serve(readFileSync(path))]);
    await expect(outcome).rejects.toMatchObject({ reason: "FormatUnsupported", message });
  });

  it.each(["raw", "raw in gzip", "raw in zstd", "raw in xz", "qcow2", "qcow2 zlib", "qcow2 in gzip"])(
    "is refused where the volume is smaller than the disk: %s",
    async (name) => {
      const outcome = download([serve(files[name] ?? disk)], {}, 4 * MIB);
      await expect(outcome).rejects.toMatchObject({
        reason: "TargetTooSmall",
        message: expect.stringContaining(`${4 * MIB}`),
      });
      expect(statSync(join(volume, "disk.img")).size).toBeLessThanOrEqual(4 * MIB);
    },
  );

  it("does not fill scratch with a qcow2 file that a bomb became", async () => {
    const bomb = gzipSync(Buffer.concat([(files["qcow2"] ?? disk).subarray(0, MIB), Buffer.alloc(80 * MIB)]));
    const outcome = download([serve(bomb)], {}, 8 * MIB);
    await expect(outcome).rejects.toMatchObject({
      reason: "TargetTooSmall",
      message: expect.stringContaining("more than"),
    });
  });

  it("is asked for with credentials, which no other server gets", async () => {
    const credentials = join(directory, "credentials");
    mkdirSync(credentials);
    writeFileSync(join(credentials, "username"), "me\n");
    writeFileSync(join(credentials, "password"), "secret");
    writeFileSync(join(credentials, "headers"), "X-Extra: yes\n");
    await using other = await OddServer.start(serve(disk));
    await using first = await OddServer.start(status(302, { Location: other.url }));
    await importFrom({ kind: "http", url: first.url, credentialsDirectory: credentials });
    const authorization = `Basic ${Buffer.from("me:secret").toString("base64")}`;
    expect(first.requests[0]?.headers).toMatchObject({
      authorization,
      "x-extra": "yes",
      "accept-encoding": "identity",
    });
    expect(other.requests[0]?.headers).not.toHaveProperty("authorization");
    expect(other.requests[0]?.headers).not.toHaveProperty("x-extra");
    expect(imported().equals(disk)).toBe(true);
  });

  it("ends at once when that is asked for", async () => {
    await using server = await OddServer.start(serve(disk, { hangAfter: 200_000 }));
    const stop = new AbortController();
    const progress = new ProgressMeter();
    const openDevice = () => Promise.reject(new Error("none"));
    const parts = { progress, log: recordingLog().log, openDevice, signal: stop.signal };
    const outcome = runImport(configOf({ kind: "http", url: server.url }), parts);
    outcome.catch(() => undefined);
    while (progress.doneBytes < 200_000) await new Promise((resolve) => setTimeout(resolve, 5));
    stop.abort();
    await expect(outcome).rejects.toThrow();
  });
});

describe("the disk of an image", () => {
  const root = join(directory, "image");
  beforeAll(() => {
    mkdirSync(join(root, "disk"), { recursive: true });
    mkdirSync(join(root, "other"));
    writeFileSync(join(root, "other", "plain.img"), disk);
    writeFileSync(join(directory, "outside"), "secret");
    symlinkSync("../../outside", join(root, "other", "link"));
    const raw = join(root, "other", "plain.img");
    execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-c", raw, join(root, "disk", "disk.qcow2")]);
  });

  it.each([undefined, "/other/plain.img"])("becomes the raw disk, and all there is: %s", async (path) => {
    writeFileSync(join(volume, "disk.img"), Buffer.alloc(7 * MIB, 0xff));
    const progress = await importFrom({ kind: "image", imageRoot: root, ...(path === undefined ? {} : { path }) });
    expect(imported().equals(disk)).toBe(true);
    expect(progress).toMatchObject({ doneBytes: disk.length, totalBytes: disk.length });
  });

  it("cannot lead out of the image, by a link or by its name", async () => {
    for (const path of ["/other/link", "/../../outside"])
      await expect(importFrom({ kind: "image", imageRoot: root, path })).rejects.toMatchObject({
        reason: "SourceInvalid",
      });
  });
});

describe("another disk", () => {
  it("is copied as it is, whatever it begins with", async () => {
    const source = join(directory, "source");
    mkdirSync(source);
    const content = Buffer.concat([Buffer.from("QFI\xfb", "latin1"), disk.subarray(4)]);
    writeFileSync(join(source, "disk.img"), content);
    writeFileSync(join(volume, "disk.img"), Buffer.alloc(7 * MIB, 0xff));
    await importFrom({ kind: "disk", volume: { kind: "directory", path: source } });
    expect(imported().equals(content)).toBe(true);
    using inUse = openFile(join(source, "disk.img"), { write: true });
    lockFile(inUse.fd, "exclusive");
    const again = importFrom({ kind: "disk", volume: { kind: "directory", path: source } });
    await expect(again).rejects.toMatchObject({ reason: "SourceInUse" });
  });
});
