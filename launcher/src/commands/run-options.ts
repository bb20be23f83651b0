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
  if (copied.length > 0) throw new TypeError("--copied is for a machine that comes by --receive; add it");
  if (moved.length > 0) throw new TypeError("--moved is for a machine that comes by --receive; add it");
  return restore === undefined ? { kind: "boot" } : { kind: "suspended", directory: restore };
}

function copiedDisk(text: string): CopiedDisk {
  const disk = parseDisk(text);
  if (disk === null) throw notADisk("--copied takes DISK=BYTES or DISK=BYTES@PATH", text);
  return disk;
}

function movedDisk(text: string): PlacedDisk {
  const disk = parseDisk(text);
  if (disk?.path === undefined) throw notADisk("--moved takes DISK=BYTES@PATH", text);
  return { ...disk, path: disk.path };
}

function notADisk(option: string, text: string): TypeError {
  return new TypeError(
    `${option}, with a multiple of 512 up to 2^50 and an absolute path, not ${JSON.stringify(text)}`,
  );
}

const DISK = /^([a-z0-9-]{1,63})=([1-9]\d{0,15})(?:@(\/.+))?$/;

function parseDisk(text: string): CopiedDisk | null {
  const [, name = "", digits = "", path] = DISK.exec(text) ?? [];
  const sizeBytes = Number(digits);
  if (name === "" || sizeBytes % DISK_SIZE.multipleOf !== 0 || sizeBytes > DISK_SIZE.max) return null;
  return { name, sizeBytes, ...(path === undefined ? {} : { path }) };
}
