import { parseArgs } from "node:util";
import type { CopiedDisk, PlacedDisk } from "../config/copied-disks.ts";
import { DISK_SIZE } from "../config/machine-config.ts";

/** Where a machine starts from: its kernel or firmware, or where another launcher left it. */
export type Origin =
  | { readonly kind: "boot" }
  | { readonly kind: "suspended"; readonly directory: string }
  /** It comes by migration, and so does what is on these disks. */
  | { readonly kind: "migrated"; readonly copied: readonly CopiedDisk[]; readonly moved: readonly PlacedDisk[] };

export interface RunOptions {
  readonly configPath: string;
  readonly origin: Origin;
}

/** Throws TypeError, with a sentence, for what is not an option. */
export function parseRunOptions(args: readonly string[]): RunOptions {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: {
      restore: { type: "string" },
      receive: { type: "boolean" },
      copied: { type: "string", multiple: true },
      moved: { type: "string", multiple: true },
    },
    allowPositionals: true,
  });
  const [configPath, ...more] = positionals;
  if (configPath === undefined || more.length > 0) throw new TypeError("run takes the path of one machine.json");
  return { configPath, origin: originOf(values) };
}

function originOf({
  restore,
  receive = false,
  copied = [],
  moved = [],
}: {
  restore?: string | undefined;
  receive?: boolean | undefined;
  copied?: readonly string[] | undefined;
  moved?: readonly string[] | undefined;
}): Origin {
  if (restore !== undefined && receive) throw new TypeError("a machine comes from --restore or by --receive, not both");
  if (receive) return { kind: "migrated", copied: copied.map(copiedDisk), moved: moved.map(movedDisk) };
  if (copied.length + moved.length > 0)
    throw new TypeError("disks are copied where the machine comes by --receive; add it");
  return restore === undefined ? { kind: "boot" } : { kind: "suspended", directory: restore };
}

function movedDisk(text: string): PlacedDisk {
  const { path, ...disk } = copiedDisk(text);
  if (path === undefined) throw new TypeError(`--moved takes DISK=BYTES@PATH, not ${JSON.stringify(text)}`);
  return { ...disk, path };
}

const COPIED = /^([a-z0-9-]{1,63})=([1-9]\d{0,15})(?:@(\/.+))?$/;

function copiedDisk(text: string): CopiedDisk {
  const [, name = "", digits = "", path] = COPIED.exec(text) ?? [];
  const sizeBytes = Number(digits);
  if (name === "" || sizeBytes % DISK_SIZE.multipleOf !== 0 || sizeBytes > DISK_SIZE.max)
    throw new TypeError(
      `--copied takes DISK=BYTES or DISK=BYTES@PATH, with a multiple of 512 up to 2^50 and an absolute path, not ${JSON.stringify(text)}`,
    );
  return { name, sizeBytes, ...(path === undefined ? {} : { path }) };
}
