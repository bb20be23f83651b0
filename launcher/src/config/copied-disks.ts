import type { DiskConfig, MachineConfig } from "../../api/machine-config.ts";
import { ConfigInvalid } from "./field.ts";

/** A disk of which a launcher that takes its machine over has an empty claim, and how large the source's disk is by now. */
export interface CopiedDisk {
  readonly name: string;
  readonly sizeBytes: number;
}

/**
 * machine.json of a target that has claims of its own: the file is the source's as well, whose disks may have grown since it was
 * written. Throws ConfigInvalid.
 */
export function withCopiedDisks(config: MachineConfig, copied: readonly CopiedDisk[]): MachineConfig {
  const missing = copied.find(({ name }) => !config.disks.some((disk) => disk.name === name));
  if (missing !== undefined)
    throw new ConfigInvalid("disks", `have no ${missing.name}; --copied names a disk of the machine`);
  const disks = config.disks.map((disk, index) => {
    const sizeBytes = copied.find(({ name }) => name === disk.name)?.sizeBytes;
    return sizeBytes === undefined ? disk : withCopy(disk, `disks[${index}]`, sizeBytes);
  });
  return { ...config, disks };
}

function withCopy(disk: DiskConfig, path: string, sizeBytes: number): DiskConfig {
  const { source } = disk;
  if (source.kind !== "directory")
    throw new ConfigInvalid(`${path}.source.kind`, `is ${source.kind}; --copied takes a disk of kind directory`);
  if (disk.readOnly) throw new ConfigInvalid(`${path}.readOnly`, "is true; --copied takes a disk that can be written");
  return { ...disk, source: { ...source, sizeBytes, copied: true } };
}
