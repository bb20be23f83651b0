/**
 * How long the import of a qcow2 file from a web server on this machine takes, and how much memory, beside `curl` and then
 * `qemu-img convert` of the same file. Needs hack/build, curl, and qemu-img.
 *
 *   node hack/bench/import.ts [--mib 2048] [--runs 5] [--directory DIR] [--compressed]
 *   node hack/bench/import.ts --in xz|zstd --window-mib 16 [--memory-mib 64] [--mib 256] [--runs 3]
 *
 * The second form takes a raw disk in a compressed file of that window, and tells of the import alone: with a window the
 * question is memory. `--memory-mib` is what the import may take.
 *
 * In turn; each run ends when all is durable. Prints a table on stderr and JSON on stdout: medians. Memory is the
 * launcher's and its xz's: the peak as the kernel counts it (VmHWM, with the pages of Node's own file), and the most that
 * was private.
 */
import { spawn } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { once } from "node:events";
import {
  closeSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";
import type { ImportConfig } from "../../launcher/api/import.ts";
import { IMPORTER_NODE_OPTIONS } from "../../operator/src/controllers/virtualmachineimage/pod.ts";
import { run } from "../lib/step.ts";
import { launcherEnvironment } from "./bench-launcher.ts";
import { mebibytes, medians, round, table } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    mib: { type: "string", default: "2048" },
    runs: { type: "string", default: "5" },
    directory: { type: "string", default: tmpdir() },
    compressed: { type: "boolean", default: false },
    in: { type: "string" },
    "window-mib": { type: "string", default: "16" },
    "memory-mib": { type: "string", default: "64" },
  },
});
const outer = outerOf(values.in);
const [mib, runs] = [Number(values.mib), Number(values.runs)];
const launcher = join(import.meta.dirname, "../../dist/launcher/launcher.js");
if (!existsSync(launcher)) throw new Error(`${launcher} is missing; run hack/build first`);
const SAMPLE_MS = 50;
const MIB = 2 ** 20;

function outerOf(name: string | undefined): "xz" | "zstd" | undefined {
  if (name === undefined || name === "xz" || name === "zstd") return name;
  throw new Error(`--in is xz or zstd, not ${name}`);
}

interface Figures extends Record<string, number> {
  readonly seconds: number;
  readonly peakMiB: number;
  readonly privateMiB: number;
}

/** A disk of `mib` MiB of data, of which half compresses where that is asked for, and as much of nothing. */
async function makeImage(directory: string): Promise<string> {
  const raw = await makeDisk(directory);
  if (outer !== undefined) return compress(raw, outer);
  const image = join(directory, "disk.qcow2");
  const options = values.compressed ? ["-c"] : [];
  await run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", ...options, raw, image], { timeoutMs: 600_000 });
  rmSync(raw);
  return image;
}

/** Of the cheapest level that has the window: what is measured reads it. */
async function compress(raw: string, format: "xz" | "zstd"): Promise<string> {
  const windowMib = Number(values["window-mib"]);
  const command =
    format === "xz"
      ? ["xz", "--keep", `--lzma2=preset=0,dict=${windowMib}MiB`, raw]
      : ["zstd", "-1", `--long=${Math.log2(windowMib * MIB)}`, "-q", raw];
  await run(command, { timeoutMs: 600_000 });
  rmSync(raw);
  return `${raw}.${format === "xz" ? "xz" : "zst"}`;
}

async function makeDisk(directory: string): Promise<string> {
  const raw = join(directory, "disk.raw");
  const fd = openSync(raw, "w");
  const data = Buffer.alloc(MIB);
  for (let i = 0; i < mib; i++) {
    randomFillSync(data);
    // Within clusters: qemu-img keeps one as it is that does not get smaller.
    if (values.compressed) for (let at = 0; at < MIB; at += 4096) data.fill(0, at, at + 2048);
    writeSync(fd, data, 0, MIB, i * MIB);
  }
  closeSync(fd);
  await run(["truncate", "-s", `${2 * mib}M`, raw]);
  return raw;
}

async function serve(file: string) {
  const { size } = statSync(file);
  const server = createServer((_request, response) => {
    response.writeHead(200, { "Content-Length": size, ETag: '"1"' });
    pipeline(createReadStream(file, { highWaterMark: MIB }), response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function importOnce(directory: string, url: string): Promise<Figures> {
  const [volume, scratchDirectory] = [join(directory, "volume"), join(directory, "scratch")];
  for (const path of [volume, scratchDirectory]) mkdirSync(path);
  const config: ImportConfig = {
    version: 1,
    source: { kind: "http", url },
    target: { kind: "directory", path: volume, sizeBytes: 2 * mib * MIB },
    scratchDirectory,
    memoryBytes: Number(values["memory-mib"]) * MIB,
    log: { level: "warn" },
  };
  const startedAt = performance.now();
  const child = spawn(process.execPath, [launcher, "import", JSON.stringify(config)], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...launcherEnvironment, NODE_OPTIONS: IMPORTER_NODE_OPTIONS },
  });
  let [peakKiB, privateKiB] = [0, 0];
  const sampler = setInterval(() => {
    const all = [child.pid, ...childrenOf(child.pid)];
    const sum = (file: string, fields: readonly string[]) =>
      all.reduce<number>((kib, pid) => kib + readKiB(pid, file, fields), 0);
    peakKiB = Math.max(peakKiB, sum("status", ["VmHWM"]));
    privateKiB = Math.max(privateKiB, sum("smaps_rollup", ["Private_Clean", "Private_Dirty"]));
  }, SAMPLE_MS);
  const [code] = (await once(child, "exit")) as [number];
  clearInterval(sampler);
  const seconds = (performance.now() - startedAt) / 1000;
  if (code !== 0) throw new Error(`the import ended with ${code}`);
  for (const path of [volume, scratchDirectory]) rmSync(path, { recursive: true });
  return { seconds, peakMiB: mebibytes(peakKiB * 1024), privateMiB: mebibytes(privateKiB * 1024) };
}

function childrenOf(pid: number | undefined): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(/\s+/).filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function readKiB(pid: number | undefined, file: string, fields: readonly string[]): number {
  try {
    const text = readFileSync(`/proc/${pid}/${file}`, "utf8");
    return fields.reduce(
      (sum, field) => sum + Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0),
      0,
    );
  } catch {
    return 0;
  }
}

/** What people do by hand; with what makes it durable. */
async function byHand(directory: string, url: string): Promise<number> {
  const [file, disk] = [join(directory, "download.qcow2"), join(directory, "disk.img")];
  const startedAt = performance.now();
  await run(["curl", "--silent", "--fail", "--output", file, url], { timeoutMs: 600_000 });
  await run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, disk], { timeoutMs: 600_000 });
  await run(["sync", disk], { timeoutMs: 600_000 });
  const seconds = (performance.now() - startedAt) / 1000;
  for (const path of [file, disk]) rmSync(path);
  return seconds;
}

const directory = mkdtempSync(join(values.directory, "typevisor-import-"));
try {
  const server = await serve(await makeImage(directory));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk.qcow2`;
  const rows: (Figures & { byHandSeconds?: number })[] = [];
  for (let i = 0; i < runs; i++) {
    const beside = outer === undefined ? { byHandSeconds: await byHand(directory, url) } : {};
    rows.push({ ...(await importOnce(directory, url)), ...beside });
  }
  server.close();
  const middle = medians(rows, 2);
  const { seconds, byHandSeconds } = middle;
  const ratio = byHandSeconds === undefined ? {} : { ratio: round(seconds / byHandSeconds, 2) };
  const summary = { mib, ...middle, ...ratio };
  process.stderr.write(`${table([summary])}\n`);
  process.stdout.write(`${JSON.stringify({ runs: rows, medians: summary })}\n`);
} finally {
  rmSync(directory, { recursive: true });
}
