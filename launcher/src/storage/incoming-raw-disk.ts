import { asDiskError, DiskError } from "./disk-error.ts";
import { IncomingDevice } from "./incoming-device.ts";
import type { IoPool } from "./io-pool.ts";
import { type BlockDeviceOpener, openRawFiles, type RawDisk, rawDiskOn, shapeOf } from "./raw-disk.ts";
import { SECTOR_BYTES } from "./storage.ts";

/** Blocks of every disk that a migration copies: what a guest's partitions count in, and stays so wherever its disk is. */
export const COPIED_BLOCK_BYTES = SECTOR_BYTES;

/**
 * As openRawDisk, for a migration to fill over what is there; `sizeBytes` of it are the disk, where that is given. Rejects with
 * DiskError.
 */
export async function openIncomingRawDisk(
  name: string,
  source: { readonly path: string; readonly sizeBytes?: number },
  pool: IoPool,
  openBlockDevice: BlockDeviceOpener | undefined,
): Promise<RawDisk> {
  const { path, sizeBytes } = source;
  using cleanup = new DisposableStack();
  const opened = await openRawFiles(name, path, { readOnly: false, openBlockDevice, mayBeUnfinished: true });
  const [fd, directFd = null] = opened.map((each) => cleanup.use(each));
  if (!fd) throw new TypeError("a raw disk has a descriptor");
  const open = { name, path, fd, directFd, pool, readOnly: false };
  const wayOut = "see its storage";
  const incoming = asDiskError(name, `${path} cannot be written`, wayOut, () => {
    const { foundBytes, blockBytes } = shapeOf(fd.fd);
    if (blockBytes !== COPIED_BLOCK_BYTES)
      throw new DiskError(
        name,
        `${path} has blocks of ${blockBytes} bytes, and a disk that is copied has ${COPIED_BLOCK_BYTES}; give the migration another device`,
      );
    if (foundBytes < (sizeBytes ?? SECTOR_BYTES))
      throw new DiskError(
        name,
        `${path} has ${foundBytes} bytes, fewer than the ${sizeBytes ?? SECTOR_BYTES} of the disk; give the migration a larger one`,
      );
    return cleanup.use(new IncomingDevice({ fd: (directFd ?? fd).fd, sizeBytes: sizeBytes ?? foundBytes }));
  });
  const disk = rawDiskOn({ ...open, incoming, ...(sizeBytes === undefined ? {} : { sizeBytes }) });
  cleanup.move();
  return disk;
}
