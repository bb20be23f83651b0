import { statSync } from "node:fs";
import type { DiskConfig, DiskSource, MachineConfig } from "../../api/machine-config.ts";
import { ConfigInvalid } from "./field.ts";

/** A disk of which a launcher that takes its machine over has a claim of its own, and how large the source's disk is by now. */
export interface CopiedDisk {
  readonly name: string;
  readonly sizeBytes: number;
  /** Where the claim is: a device or a directory. Default: where machine.json says that the source's is. */
  readonly path?: string;
}

/** A disk that is at another path than machine.json says. */
export type PlacedDisk = CopiedDisk & { readonly path: string };

/** An option of the command line that says where disks are. */
interface Placement {
  readonly option: string;
  sourceAt(place: Place): DiskSource;
}

interface Place {
  readonly kind: "directory" | "raw";
  readonly path: string;
  readonly sizeBytes: number;
}

const COPIED: Placement = { option: "--copied", sourceAt: (place) => ({ ...place, copied: true }) };
const MOVED: Placement = {
  option: "--moved",
  sourceAt: ({ kind, path, sizeBytes }) => (kind === "raw" ? { kind, path } : { kind, path, sizeBytes }),
};

/**
 * machine.json of a target that has claims of its own: the file is the source's as well, whose disks may have grown since it was
 * written. Throws ConfigInvalid.
 */
export function withCopiedDisks(config: MachineConfig, copied: readonly CopiedDisk[]): MachineConfig {
  return withPlacedDisks(config, copied, COPIED);
}

/** The same where an earlier migration moved disks since the file was written. Throws ConfigInvalid. */
export function withMovedDisks(config: MachineConfig, moved: readonly PlacedDisk[]): MachineConfig {
  return withPlacedDisks(config, moved, MOVED);
}

function withPlacedDisks(config: MachineConfig, placed: readonly CopiedDisk[], placement: Placement): MachineConfig {
  const missing = placed.find(({ name }) => !config.disks.some((disk) => disk.name === name));
  if (missing !== undefined)
    throw new ConfigInvalid("disks", `have no ${missing.name}; ${placement.option} names a disk of the machine`);
  const disks = config.disks.map((disk, index) => {
    const found = placed.find(({ name }) => name === disk.name);
    if (found === undefined) return disk;
    const { kind, path } = placeableSource(disk, `disks[${index}]`, placement.option);
    const place = found.path === undefined ? { kind, path } : { kind: kindOf(found.path), path: found.path };
    return { ...disk, source: placement.sourceAt({ ...place, sizeBytes: found.sizeBytes }) };
  });
  return { ...config, disks };
}

function placeableSource(
  { source, readOnly }: DiskConfig,
  field: string,
  option: string,
): DiskSource & { kind: Place["kind"] } {
  if (source.kind !== "directory" && source.kind !== "raw")
    throw new ConfigInvalid(
      `${field}.source.kind`,
      `is ${source.kind}; ${option} takes a disk of kind directory or raw`,
    );
  if (readOnly) throw new ConfigInvalid(`${field}.readOnly`, `is true; ${option} takes a disk that can be written`);
  return source;
}

/** What is not there is found missing when it is opened. */
function kindOf(path: string): Place["kind"] {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ? "directory" : "raw";
}
