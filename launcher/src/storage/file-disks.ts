import { fstatSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { SysError } from "../sys/errors.ts";
import { duplicateFd, type OwnedFd } from "../sys/fd.ts";
import { fdatasync, ftruncate, openFile } from "../sys/file-io.ts";
import { openInRoot } from "../sys/open-in-root.ts";
import { asDiskError, DiskError } from "./disk-error.ts";
import { IncomingClaimFile, IncomingFile, UNFINISHED_MARK } from "./incoming-file.ts";
import type { IoPool } from "./io-pool.ts";
import { lockDisk, type RawDisk, rawDiskOn } from "./raw-disk.ts";
import { openVolumeDirectory } from "./volume-directory.ts";

/** The one file of a claim's file system that is a disk. */
const DISK_FILE = "disk.img";

export interface SizedSource {
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * Opens disk.img in the directory `source.path`, which other pods may have filled: no link is followed, and only a
 * regular file is opened. It is made when missing, and grown to `sizeBytes` when smaller. Throws DiskError.
 */
export function openDirectoryDisk(
  name: string,
  source: SizedSource,
  pool: IoPool,
  { readOnly, claimLater = false }: { readonly readOnly: boolean; readonly claimLater?: boolean },
): RawDisk {
  using cleanup = new DisposableStack();
  const fd = cleanup.use(openDirectoryFile(name, source, { readOnly, claimLater }));
  const disk = rawDiskOn({ name, path: join(source.path, DISK_FILE), fd, directFd: null, pool, readOnly });
  cleanup.move();
  return disk;
}

/** The file of `openDirectoryDisk`, locked unless it is to be claimed later. Throws DiskError. */
export function openDirectoryFile(
  name: string,
  source: SizedSource,
  { readOnly, claimLater = false }: { readonly readOnly: boolean; readonly claimLater?: boolean },
): OwnedFd {
  const path = join(source.path, DISK_FILE);
  using directory = openVolumeDirectory(name, source.path);
  using cleanup = new DisposableStack();
  checkFinished(name, source.path, directory);
  const found = openRegularFile(name, path, directory, !readOnly);
  if (found === null && readOnly)
    throw new DiskError(name, `${path} is missing; put a raw disk there, or do not make the disk read-only`);
  const fd = cleanup.use(found ?? createFile(name, path, directory));
  if (!claimLater) lockDisk(name, path, fd.fd, readOnly);
  if (!readOnly && fstatSync(fd.fd).size < source.sizeBytes)
    asSizing(name, path, () => {
      ftruncate(fd.fd, source.sizeBytes);
      fdatasync(fd.fd);
      fdatasync(directory.fd);
    });
  cleanup.move();
  return fd;
}

/**
 * Makes the disk.img of a claim for a migration to fill; what an earlier one left unfinished there goes. Throws DiskError,
 * also where there is a disk already.
 */
export function openIncomingDirectoryDisk(name: string, source: SizedSource, pool: IoPool): RawDisk {
  const path = join(source.path, DISK_FILE);
  using directory = openVolumeDirectory(name, source.path);
  using cleanup = new DisposableStack();
  if (isThere(directory, DISK_FILE) && !isThere(directory, UNFINISHED_MARK))
    throw new DiskError(name, `${path} is there already, and would be overwritten; give the migration an empty claim`);
  const incoming = cleanup.use(asSizing(name, path, () => new IncomingClaimFile(duplicateFd(directory.fd), DISK_FILE)));
  const fd = cleanup.use(createFile(name, path, directory));
  lockDisk(name, path, fd.fd, false);
  asSizing(name, path, () => {
    ftruncate(fd.fd, source.sizeBytes);
    fdatasync(fd.fd);
  });
  const disk = rawDiskOn({ name, path, fd, directFd: null, pool, readOnly: false, incoming });
  cleanup.move();
  return disk;
}

function isThere(directory: OwnedFd, file: string): boolean {
  using handle = lookUp(file, directory);
  return handle !== null;
}

/** Half a disk is worse than none: a guest would find it damaged, or write to it while the whole one is elsewhere. */
function checkFinished(name: string, path: string, directory: OwnedFd): void {
  if (asDiskError(name, `${path} cannot be read`, "check its permissions", () => isThere(directory, UNFINISHED_MARK)))
    throw new DiskError(
      name,
      `${path} has what a migration left unfinished; remove ${DISK_FILE} and ${UNFINISHED_MARK}, unless the machine ran here since`,
    );
}

export interface EmptyDiskOptions {
  /** What is there stays. */
  readonly keep?: boolean;
  /** A migration fills it; it is gone again unless the disk is claimed. */
  readonly isIncoming?: boolean;
}

/** Opens the file `source.path` as an empty sparse disk, whatever was there before. Throws DiskError. */
export function openEmptyDisk(
  name: string,
  source: SizedSource,
  pool: IoPool,
  { keep = false, isIncoming = false }: EmptyDiskOptions = {},
): RawDisk {
  const { path, sizeBytes } = source;
  using directory = openVolumeDirectory(name, dirname(path));
  using cleanup = new DisposableStack();
  const fd = cleanup.use(openRegularFile(name, path, directory, true) ?? createFile(name, path, directory));
  lockDisk(name, path, fd.fd, false);
  asSizing(name, path, () => {
    if (!keep) ftruncate(fd.fd, 0);
    ftruncate(fd.fd, Math.max(sizeBytes, fstatSync(fd.fd).size));
  });
  const incoming = isIncoming ? new IncomingFile(path) : null;
  const disk = rawDiskOn({ name, path, fd, directFd: null, pool, readOnly: false, isEphemeral: true, incoming });
  cleanup.move();
  return disk;
}

/** The file of that name in the directory; null when there is none. It is opened only once it is known to be regular. */
function openRegularFile(name: string, path: string, directory: OwnedFd, write: boolean): OwnedFd | null {
  const wayOut = "check its permissions";
  return asDiskError(name, `${path} cannot be opened`, wayOut, () => {
    using handle = lookUp(path, directory);
    if (handle === null) return null;
    if (!fstatSync(handle.fd).isFile())
      throw new DiskError(name, `${path} is not a regular file; remove it, and a disk is made there`);
    return openFile(`/proc/self/fd/${handle.fd}`, { write });
  });
}

function lookUp(path: string, directory: OwnedFd): OwnedFd | null {
  try {
    return openInRoot(directory.fd, basename(path), { pathOnly: true, noFollow: true, noSymlinks: true });
  } catch (error) {
    if (error instanceof SysError && error.code === "ENOENT") return null;
    throw error;
  }
}

/**
 * An empty file under its final name, so that two who make it meet at its lock. A launcher that is killed before the
 * file has its size leaves one that the next start grows.
 */
function createFile(name: string, path: string, directory: OwnedFd): OwnedFd {
  return asSizing(name, path, () =>
    openInRoot(directory.fd, basename(path), { write: true, create: true, exclusive: true, noSymlinks: true }),
  );
}

function asSizing<T>(name: string, path: string, step: () => T): T {
  return asDiskError(name, `${path} cannot be made`, "check that its volume is writable and has room", step);
}
