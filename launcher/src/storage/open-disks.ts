import type { DiskConfig } from "../../api/machine-config.ts";
import { DiskError } from "./disk-error.ts";
import { openDirectoryDisk, openEmptyDisk } from "./file-disks.ts";
import { openImageDisk } from "./image-disk.ts";
import type { IoPool } from "./io-pool.ts";
import { type BlockDeviceOpener, openRawDisk } from "./raw-disk.ts";
import type { Storage } from "./storage.ts";

/** Opens what a disk of the machine stands on. Rejects with DiskError. */
export async function openDisk(
  config: DiskConfig,
  pool: IoPool,
  openBlockDevice?: BlockDeviceOpener,
): Promise<Storage> {
  const { name, source, readOnly } = config;
  switch (source.kind) {
    case "image":
      return openImageDisk(name, source, pool, readOnly);
    case "raw":
      return await openRawDisk(name, source.path, pool, { readOnly, openBlockDevice });
    case "directory":
      return openDirectoryDisk(name, source, pool, readOnly);
    case "empty":
      return openEmptyDisk(name, source, pool);
    default:
      throw new DiskError(name, `this launcher has no disks of kind ${source.kind}; use a newer one`);
  }
}

/** Opens all disks of a machine, in order; where one fails, those before it are closed. Rejects with DiskError. */
export async function openDisks(
  configs: readonly DiskConfig[],
  pool: IoPool,
  openBlockDevice?: BlockDeviceOpener,
): Promise<Storage[]> {
  const opened: Storage[] = [];
  try {
    for (const config of configs) opened.push(await openDisk(config, pool, openBlockDevice));
    return opened;
  } catch (error) {
    await closeDisks(opened);
    throw error;
  }
}

/** Waits for what is under way, then closes all. */
export async function closeDisks(disks: readonly Storage[]): Promise<void> {
  await Promise.all(disks.map((disk) => disk.close()));
}
