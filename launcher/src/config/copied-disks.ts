import { statSync } from "node:fs";
import type { DiskConfig, MachineConfig } from "../../api/machine-config.ts";
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

/**
 * machine.json of a target that has claims of its own: the file is the source's as well, whose disks may have grown since it was
 * written. Throws ConfigInvalid.
 */
export function withCopiedDisks(config: MachineConfig, copied: readonly CopiedDisk[]): MachineConfig {
  const missing = copied.find(({ name }) => !config.disks.some((disk) => disk.name === name));
  if (missing !== undefined)
    throw new ConfigInvalid("disks", `have no ${missing.name}; --copied names a disk of the machine`);
  const disks = config.disks.map((disk, index) => {
    const copy = copied.find(({ name }) => name === disk.name);
    return copy === undefined ? disk : withCopy(disk, `disks[${index}]`, copy);
  });
  return { ...config, disks };
}

/** The same where an earlier migration moved disks since the file was written. Throws ConfigInvalid. */
export function withMovedDisks(config: MachineConfig, moved: readonly PlacedDisk[]): MachineConfig {
  const { disks } = withCopiedDisks(config, moved);
  return {
    ...config,
    disks: disks.map((disk) => (moved.some(({ name }) => name === disk.name) ? uncopied(disk) : disk)),
  };
}

function uncopied(disk: DiskConfig): DiskConfig {
  const { source } = disk;
  if (source.kind === "raw") return { ...disk, source: { kind: source.kind, path: source.path } };
  if (source.kind !== "directory") return disk;
  const { copied: _, ...rest } = source;
  return { ...disk, source: rest };
}

function withCopy(disk: DiskConfig, field: string, { sizeBytes, path }: CopiedDisk): DiskConfig {
  const { source } = disk;
  if (source.kind !== "directory" && source.kind !== "raw")
    throw new ConfigInvalid(
      `${field}.source.kind`,
      `is ${source.kind}; --copied takes a disk of kind directory or raw`,
    );
  if (disk.readOnly) throw new ConfigInvalid(`${field}.readOnly`, "is true; --copied takes a disk that can be written");
  const kind = path === undefined ? source.kind : kindOf(path);
  return { ...disk, source: { kind, path: path ?? source.path, sizeBytes, copied: true } };
}

/** What is not there is found missing when it is opened. */
function kindOf(path: string): "directory" | "raw" {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ? "directory" : "raw";
}
