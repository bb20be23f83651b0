import type { DiskConfig } from "../../api/machine-config.ts";
import { openDirectoryDisk, openEmptyDisk } from "./file-disks.ts";
import { openImageDisk } from "./image-disk.ts";
import type { IoPool } from "./io-pool.ts";
import { openCloudInitDisk, openFilesDisk } from "./iso-disks.ts";
import { type BlockDeviceOpener, openRawDisk } from "./raw-disk.ts";
import type { DiskEvents, Storage } from "./storage.ts";

/** Opens what a disk of the machine stands on. Rejects with DiskError. */
export async function openDisk(
  config: DiskConfig,
  pool: IoPool,
  openBlockDevice?: BlockDeviceOpener,
  events?: DiskEvents,
): Promise<Storage> {
  const { name, source, readOnly } = config;
  switch (source.kind) {
    case "image":
      return openImageDisk(name, source, pool, { readOnly, onDamage: (problem) => events?.damaged(name, problem) });
    case "raw":
      return await openRawDisk(name, source.path, pool, { readOnly, openBlockDevice });
    case "directory":
      return openDirectoryDisk(name, source, pool, readOnly);
    case "empty":
      return openEmptyDisk(name, source, pool);
    case "files":
      return openFilesDisk(name, source, pool);
    case "cloudInit":
      return openCloudInitDisk(name, source, pool);
  }
}

/** Opens all disks of a machine, in order; where one fails, those before it are closed. Rejects with DiskError. */
export async function openDisks(
  configs: readonly DiskConfig[],
  pool: IoPool,
  openBlockDevice?: BlockDeviceOpener,
  events?: DiskEvents,
): Promise<Storage[]> {
  const opened: Storage[] = [];
  try {
    for (const config of configs) {
      const disk = await openDisk(config, pool, openBlockDevice, events);
      opened.push(disk);
      events?.opened(config.name, disk.description ?? `${config.source.kind}, ${disk.sizeBytes} bytes`);
    }
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
