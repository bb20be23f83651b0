import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Of Debian's package qemu-utils. Throws with what it said. */
export function qemu(tool: "qemu-img" | "qemu-io", ...args: string[]): string {
  return execFileSync(tool, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** What the image holds, by the tool that made it. */
export function convertToRaw(image: string): Uint8Array {
  const raw = `${image}.raw`;
  qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw);
  return new Uint8Array(readFileSync(raw));
}

/** Every sector differs from the next; half of the 32 KiB pieces compress well, some are zero. */
export function sampleContent(sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let state = 0x2545f491;
  for (let i = 0; i < sizeBytes; i++) {
    const piece = i >>> 15;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    if (piece % 5 === 4) continue;
    bytes[i] = piece % 2 === 0 ? state : ((i >>> 9) + (i & 7)) & 0xff;
  }
  return bytes;
}

/** An image of the corpus: options of `qemu-img`, and what is done to it. */
export interface CorpusCase {
  readonly name: string;
  readonly sizeBytes: number;
  /** For `qemu-img -o`. */
  readonly options: string;
  /** Made from sample content; else it begins empty. */
  readonly content?: "plain" | "compressed";
  /** For `qemu-io -c`, one by one. */
  readonly commands?: readonly string[];
  /** A snapshot is taken before `commands`. */
  readonly withSnapshot?: boolean;
}

const MIB = 1 << 20;
const scattered = [
  "write -P 1 0 512",
  "write -P 2 65024 1024",
  "write -P 3 50000384 4096",
  "write -P 4 67108352 512",
  "write -c -P 5 1048576 65536",
];
const zeroed = ["write -z 65536 131072", "write -z -u 524288 65536", "discard 786432 65536", "write -z 1000448 3072"];

/** What images are like: each feature of the format that a reader meets, and the extremes of cluster size. */
export const corpus: readonly CorpusCase[] = [
  { name: "sparse", sizeBytes: 64 * MIB, options: "compat=1.1", commands: scattered },
  { name: "plain", sizeBytes: 3 * MIB, options: "compat=1.1", content: "plain" },
  { name: "compressed with zlib", sizeBytes: 3 * MIB, options: "compat=1.1", content: "compressed" },
  { name: "compressed with zstd", sizeBytes: 3 * MIB, options: "compression_type=zstd", content: "compressed" },
  { name: "version 2", sizeBytes: 3 * MIB, options: "compat=0.10", content: "plain" },
  { name: "version 2 compressed", sizeBytes: 3 * MIB, options: "compat=0.10", content: "compressed" },
  { name: "clusters of 512 bytes", sizeBytes: MIB, options: "cluster_size=512", content: "plain" },
  { name: "compressed clusters of 512 bytes", sizeBytes: MIB, options: "cluster_size=512", content: "compressed" },
  { name: "clusters of 2 MiB", sizeBytes: 9 * MIB, options: "cluster_size=2M", content: "plain" },
  { name: "compressed clusters of 2 MiB", sizeBytes: 9 * MIB, options: "cluster_size=2M", content: "compressed" },
  {
    name: "zstd clusters of 2 MiB",
    sizeBytes: 9 * MIB,
    options: "cluster_size=2M,compression_type=zstd",
    content: "compressed",
  },
  { name: "a size that is odd", sizeBytes: 100_001, options: "cluster_size=4k", content: "plain" },
  { name: "an odd size compressed", sizeBytes: 1_234_567, options: "compat=1.1", content: "compressed" },
  { name: "zero clusters", sizeBytes: 3 * MIB, options: "compat=1.1", content: "plain", commands: zeroed },
  {
    name: "preallocated tables",
    sizeBytes: 3 * MIB,
    options: "preallocation=metadata",
    commands: ["write -P 9 7680 999424"],
  },
  {
    name: "preallocated storage",
    sizeBytes: 3 * MIB,
    options: "preallocation=falloc",
    commands: ["write -P 9 7680 999424"],
  },
  {
    name: "snapshots",
    sizeBytes: 3 * MIB,
    options: "compat=1.1",
    content: "plain",
    withSnapshot: true,
    commands: ["write -P 7 100352 200704"],
  },
  {
    name: "written over compressed clusters",
    sizeBytes: 3 * MIB,
    options: "compat=1.1",
    content: "compressed",
    commands: ["write -P 7 100352 200704"],
  },
  {
    name: "extended L2 entries",
    sizeBytes: 3 * MIB,
    options: "extended_l2=on",
    commands: ["write -P 5 10240 20480", "write -P 6 202752 512", "write -z 12288 4096", ...zeroed],
  },
  { name: "extended L2 entries compressed", sizeBytes: 3 * MIB, options: "extended_l2=on", content: "compressed" },
];

/** Makes a qcow2 image of a raw file, with options of `qemu-img -o`. */
export function convertFromRaw(raw: string, path: string, options: string, isCompressed = false): void {
  const compressed = isCompressed ? ["-c"] : [];
  qemu("qemu-img", "convert", ...compressed, "-f", "raw", "-O", "qcow2", "-o", options, raw, path);
}

/** Makes the image in `directory` as `name`.qcow2; answers its path. */
export function makeImage(directory: string, made: CorpusCase): string {
  const path = join(directory, `${made.name.replaceAll(" ", "-")}.qcow2`);
  if (made.content) {
    const source = `${path}.source`;
    writeFileSync(source, sampleContent(made.sizeBytes));
    convertFromRaw(source, path, made.options, made.content === "compressed");
  } else qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", made.options, path, String(made.sizeBytes));
  if (made.withSnapshot) qemu("qemu-img", "snapshot", "-c", "before", path);
  const commands = (made.commands ?? []).flatMap((command) => ["-c", command]);
  if (commands.length > 0) qemu("qemu-io", "-f", "qcow2", ...commands, path);
  return path;
}
