import type { DiskConfig } from "../../api/machine-config.ts";
import { type AttachmentTaker, openAttachedDisk } from "./attached-disk.ts";
import { openDirectoryDisk, openEmptyDisk, openIncomingDirectoryDisk } from "./file-disks.ts";
import { openImageDisk } from "./image-disk.ts";
import { openIncomingRawDisk } from "./incoming-raw-disk.ts";
import type { IoPool } from "./io-pool.ts";
import { openCloudInitDisk, openFilesDisk } from "./iso-disks.ts";
import { type BlockDeviceOpener, openRawDisk } from "./raw-disk.ts";
import type { DiskEvents, Storage } from "./storage.ts";

/** What opening disks takes besides their configuration. */
export interface DiskOpening {
  /** Does the I/O. */
  readonly pool: IoPool;
  /** For block devices that this process may not open; default: it opens them. */
  readonly openBlockDevice?: BlockDeviceOpener | undefined;
  /** For disks of kind `attachment`; none can be had without. */
  readonly takeAttachment?: AttachmentTaker | undefined;
  readonly diskEvents?: DiskEvents | undefined;
  /** Overlays and empty disks are taken as they were left, instead of being made anew. */
  readonly keepLocalDisks?: boolean | undefined;
  /**
   * The machine is another launcher's until `Storage.claim`: files that this one has too are opened without their locks, and
   * those that are to be copied from there are made.
   */
  readonly isIncoming?: boolean | undefined;
}

export interface OpenedDisk {
  readonly config: DiskConfig;
  readonly storage: Storage;
}

/** Whether a launcher that takes the machine over has a storage of its own for the disk, which is filled from the other one's. */
export function isFilledByMigration({ source }: DiskConfig): boolean {
  switch (source.kind) {
    case "image":
    case "empty":
      return true;
    case "raw":
    case "directory":
      return source.copied ?? false;
    default:
      return false;
  }
}

/** Opens what a disk of the machine stands on. Rejects with DiskError. */
export async function openDisk(config: DiskConfig, opening: DiskOpening): Promise<Storage> {
  const { name, source, readOnly } = config;
  const { pool, openBlockDevice, takeAttachment, diskEvents, keepLocalDisks = false, isIncoming = false } = opening;
  const isCopied = isIncoming && isFilledByMigration(config);
  const claimLater = isIncoming && !isCopied;
  switch (source.kind) {
    case "image":
      return openImageDisk(name, source, pool, {
        readOnly,
        keepOverlay: keepLocalDisks,
        isIncoming,
        onDamage: (problem) => diskEvents?.damaged(name, problem),
      });
    case "raw":
      return isCopied
        ? await openIncomingRawDisk(name, source, pool, openBlockDevice)
        : await openRawDisk(name, source.path, pool, { readOnly, openBlockDevice, claimLater });
    case "directory":
      return isCopied
        ? openIncomingDirectoryDisk(name, source, pool)
        : openDirectoryDisk(name, source, pool, { readOnly, claimLater });
    case "empty":
      return openEmptyDisk(name, source, pool, { keep: keepLocalDisks, isIncoming });
    case "files":
      return openFilesDisk(name, source, pool);
    case "cloudInit":
      return openCloudInitDisk(name, source, pool);
    case "attachment":
      return await openAttachedDisk(name, source.podUid, pool, { readOnly, takeAttachment });
  }
}

/** Opens all disks of a machine, in order; where one fails, those before it are closed. Rejects with DiskError. */
export async function openDisks(configs: readonly DiskConfig[], opening: DiskOpening): Promise<OpenedDisk[]> {
  const opened: OpenedDisk[] = [];
  try {
    for (const config of configs) {
      const storage = await openDisk(config, opening);
      opened.push({ config, storage });
      const description = storage.description ?? `${config.source.kind}, ${storage.sizeBytes} bytes`;
      opening.diskEvents?.opened(config.name, description);
    }
    return opened;
  } catch (error) {
    await Promise.all(opened.map(({ storage }) => storage.close()));
    throw error;
  }
}
