import { fstatSync, statSync } from "node:fs";
import { getSystemErrorName } from "node:util";
import { blockDeviceSizeBytes, logicalBlockSizeBytes } from "../sys/block-device.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { ftruncateAsync, openFile } from "../sys/file-io.ts";
import { lockFile, unlockFile } from "../sys/file-lock.ts";
import { Bounce } from "./bounce.ts";
import type { DiskContents } from "./disk-contents.ts";
import { asDiskError, DiskError, DiskInUse, diskError } from "./disk-error.ts";
import { EOPNOTSUPP, FileIo } from "./file-io.ts";
import { IncomingDevice, isMarkedUnfinished } from "./incoming-device.ts";
import type { IncomingClaimFile, IncomingFile } from "./incoming-file.ts";
import type { IoLane, IoPool } from "./io-pool.ts";
import type { IoVector } from "./io-vector.ts";
import { type IoCompletion, SECTOR_BYTES, type Storage } from "./storage.ts";
import { ZeroWriter } from "./zero-writer.ts";

/** What file systems and their page cache work in. */
const PAGE_BYTES = 4096;

/** Opens a block device that this process may not open itself. Throws with a reason for a person. */
export type BlockDeviceOpener = (path: string, access: { readOnly: boolean; direct: boolean }) => Promise<OwnedFd>;

/** How the kernel and the node agent say that somebody else has claimed a block device. */
const DEVICE_CLAIMED: readonly unknown[] = ["EBUSY", "DeviceBusy"];

export interface RawDiskOptions {
  readonly readOnly: boolean;
  /** Past the page cache; default: for block devices, so that a write is on the device for whoever opens it next. */
  readonly direct?: boolean;
  /** Default: opens the path. */
  readonly openBlockDevice?: BlockDeviceOpener | undefined;
  /** Another machine has it until `claim`. */
  readonly claimLater?: boolean;
  /** What an earlier migration left unfinished there is no obstacle. */
  readonly mayBeUnfinished?: boolean;
}

/**
 * Opens a raw file or block device as a disk, and locks it: two machines that write one disk destroy it.
 * Rejects with DiskError.
 */
export async function openRawDisk(name: string, path: string, pool: IoPool, options: RawDiskOptions): Promise<RawDisk> {
  using cleanup = new DisposableStack();
  const [fd, directFd = null] = (await openRawFiles(name, path, options)).map((each) => cleanup.use(each));
  if (!fd) throw new TypeError("a raw disk has a descriptor");
  const disk = rawDiskOn({ name, path, fd, directFd, pool, readOnly: options.readOnly });
  cleanup.move();
  return disk;
}

/** The descriptors of `openRawDisk`, the first one locked; a second one past the page cache where the disk is. */
export async function openRawFiles(name: string, path: string, options: RawDiskOptions): Promise<OwnedFd[]> {
  const { readOnly } = options;
  const isBlockDevice = checkKind(name, path);
  const isDirect = options.direct ?? isBlockDevice;
  const opener = isBlockDevice && options.openBlockDevice ? options.openBlockDevice : openHere;
  const wayOut = readOnly ? "check its permissions" : "check its permissions, or make the disk read-only";
  const open = async (direct: boolean) => {
    try {
      return await opener(path, { readOnly, direct });
    } catch (cause) {
      if (DEVICE_CLAIMED.includes(Object(cause).code)) throw inUse(name, path, " on this node, or mounted there");
      throw diskError(name, `${path} cannot be opened`, wayOut, cause);
    }
  };
  using cleanup = new DisposableStack();
  const fd = cleanup.use(await open(false));
  if (!options.claimLater)
    asDiskError(name, `${path} cannot be locked`, "check what it is", () => lockDisk(name, path, fd.fd, readOnly));
  if (!options.claimLater && !options.mayBeUnfinished) checkFinished(name, path, fd.fd);
  const fds = isDirect ? [fd, cleanup.use(await open(true))] : [fd];
  cleanup.move();
  return fds;
}

function checkFinished(name: string, path: string, fd: number): void {
  if (asDiskError(name, `${path} cannot be read`, "see its storage", () => isMarkedUnfinished(fd)))
    throw new DiskError(
      name,
      `${path} has what a migration left unfinished; the disk is whole where it was before, so go on with that`,
    );
}

export interface OpenRawDisk {
  readonly name: string;
  /** For messages. */
  readonly path: string;
  /** With page cache; locked. The disk closes it. */
  readonly fd: OwnedFd;
  readonly directFd: OwnedFd | null;
  readonly pool: IoPool;
  readonly readOnly: boolean;
  /** It ends with this process. */
  readonly isEphemeral?: boolean;
  /** Where a migration fills it. */
  readonly incoming?: Incoming | null;
  /** Default: all that there is. Not more than that. */
  readonly sizeBytes?: number;
}

type Incoming = IncomingFile | IncomingClaimFile | IncomingDevice;

/** The disk on what is open and locked. Throws DiskError; the descriptors are the caller's then. */
export function rawDiskOn(open: OpenRawDisk): RawDisk {
  const { name, path, fd, directFd, pool, readOnly, isEphemeral = false, incoming = null } = open;
  const parts = asDiskError(name, `${path} cannot be used`, "check what it is", () => {
    const { foundBytes, isBlockDevice, blockBytes: logicalBlockBytes } = shapeOf(fd.fd);
    const sizeBytes = open.sizeBytes ?? foundBytes;
    if (sizeBytes < SECTOR_BYTES || sizeBytes % SECTOR_BYTES !== 0)
      throw new DiskError(
        name,
        `${path} has ${sizeBytes} bytes, which is not a positive multiple of ${SECTOR_BYTES}; extend it with truncate -s`,
      );
    return { sizeBytes, isBlockDevice, logicalBlockBytes };
  });
  return new RawDisk({ name, path, fd, directFd, lane: pool.openLane(), readOnly, isEphemeral, incoming, ...parts });
}

/** What a raw file or block device is like. */
export function shapeOf(fd: number): { foundBytes: number; isBlockDevice: boolean; blockBytes: number } {
  const isBlockDevice = fstatSync(fd).isBlockDevice();
  const blockBytes = isBlockDevice ? logicalBlockSizeBytes(fd) : SECTOR_BYTES;
  return { foundBytes: sizeOf(fd, isBlockDevice), isBlockDevice, blockBytes };
}

function sizeOf(fd: number, isBlockDevice: boolean): number {
  return isBlockDevice ? blockDeviceSizeBytes(fd) : fstatSync(fd).size;
}

/**
 * The device node is the container's own, so that locks on it are not seen from other containers: who writes claims the
 * device itself (O_EXCL), once for its two descriptors.
 */
async function openHere(path: string, { readOnly, direct }: { readOnly: boolean; direct: boolean }): Promise<OwnedFd> {
  return openFile(path, { write: !readOnly, direct, exclusive: !readOnly && !direct });
}

/** Locks what a disk stands on until it is closed. Throws DiskError when another machine uses it. */
export function lockDisk(name: string, path: string, fd: number, readOnly: boolean): void {
  if (lockFile(fd, readOnly ? "shared" : "exclusive") === "taken") throw inUse(name, path);
}

function inUse(name: string, path: string, where = ""): DiskInUse {
  const wayOut = "stop that one or give this one its own";
  return new DiskInUse(name, `${path} is in use by another virtual machine${where}; ${wayOut}`);
}

/** True for a block device, false for a regular file. Asked before opening: opening a FIFO waits for its other end. */
function checkKind(name: string, path: string): boolean {
  const wayOut = "check that its volume is mounted and has the file";
  const stat = asDiskError(name, `${path} cannot be found`, wayOut, () => statSync(path));
  if (stat.isFile() || stat.isBlockDevice()) return stat.isBlockDevice();
  throw new DiskError(name, `${path} is neither a regular file nor a block device`);
}

interface RawDiskParts {
  readonly name: string;
  /** For messages. */
  readonly path: string;
  /** With page cache. */
  readonly fd: OwnedFd;
  readonly directFd: OwnedFd | null;
  readonly lane: IoLane;
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  readonly readOnly: boolean;
  readonly isEphemeral: boolean;
  readonly incoming: Incoming | null;
  readonly logicalBlockBytes: number;
}

/** A raw file or block device, written in place. */
export class RawDisk implements Storage {
  readonly readOnly: boolean;
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes = PAGE_BYTES;
  readonly #parts: RawDiskParts;
  readonly #buffered: FileIo;
  readonly #direct: FileIo | null;
  readonly #bounce: Bounce | null;
  #sizeBytes: number;

  constructor(parts: RawDiskParts) {
    this.#sizeBytes = parts.sizeBytes;
    this.readOnly = parts.readOnly;
    this.logicalBlockBytes = parts.logicalBlockBytes;
    this.#parts = parts;
    this.#buffered = new FileIo(parts.fd.fd, parts.lane, true);
    this.#direct = parts.directFd && new FileIo(parts.directFd.fd, parts.lane, false);
    this.#bounce = this.#direct && new Bounce(this.#direct);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#ioFor(offsetBytes, vector).read(offsetBytes, vector, completion);
  }

  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#ioFor(offsetBytes, vector).write(offsetBytes, vector, completion);
  }

  flush(completion: IoCompletion): void {
    this.#buffered.sync(completion);
  }

  discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    const hint = new Fallback(completion, EOPNOTSUPP, () => completion.completed(0));
    if (this.#parts.isBlockDevice) this.#buffered.discardDevice(offsetBytes, lengthBytes, hint);
    else this.#buffered.punchHole(offsetBytes, lengthBytes, hint);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void {
    if (this.#parts.isBlockDevice) {
      this.#buffered.zeroDevice(offsetBytes, lengthBytes, completion);
      return;
    }
    const byWriting = new Fallback(completion, EOPNOTSUPP, () =>
      new ZeroWriter(this.#buffered, completion).write(offsetBytes, lengthBytes),
    );
    if (mayUnmap) this.#buffered.punchHole(offsetBytes, lengthBytes, byWriting);
    else this.#buffered.zeroRange(offsetBytes, lengthBytes, byWriting);
  }

  /** A file is extended where this disk may write; of all else the size is read anew. */
  async grow(sizeBytes: number): Promise<void> {
    const { name, path, fd, isBlockDevice } = this.#parts;
    const refuse = (problem: string) => {
      throw new DiskError(name, `${path} ${problem}`);
    };
    if (sizeBytes < this.#sizeBytes && !isBlockDevice)
      refuse(`has ${this.#sizeBytes} bytes, and a disk does not shrink to ${sizeBytes}`);
    if (!isBlockDevice && !this.readOnly && sizeOf(fd.fd, false) < sizeBytes) await this.#extend(sizeBytes);
    const found = sizeOf(fd.fd, isBlockDevice);
    if (found < this.#sizeBytes) refuse(`has shrunk to ${found} bytes under the disk, which has ${this.#sizeBytes}`);
    if (found < sizeBytes)
      refuse(`has ${found} bytes, fewer than the ${sizeBytes} asked for; enlarge its volume first`);
    this.#sizeBytes = found - (found % this.logicalBlockBytes);
  }

  release(): void {
    unlockFile(this.#parts.fd.fd);
  }

  claim(): void {
    const { name, path, fd } = this.#parts;
    lockDisk(name, path, fd.fd, this.readOnly);
    this.#parts.incoming?.keep();
  }

  contents(): DiskContents | null {
    const { fd, directFd, isBlockDevice, isEphemeral, incoming } = this.#parts;
    if (this.readOnly) return null;
    return {
      // What direct I/O writes is not seen by the page cache of a device at once.
      fd: (isBlockDevice && directFd ? directFd : fd).fd,
      sizeBytes: this.#sizeBytes,
      isBlockDevice,
      outlivesProcess: !isEphemeral,
      isBlank: incoming !== null && !(incoming instanceof IncomingDevice),
      headFd: incoming instanceof IncomingDevice ? incoming.headFd : null,
      overlay: null,
    };
  }

  async close(): Promise<void> {
    await this.#parts.lane.close();
    this.#parts.incoming?.[Symbol.dispose]();
    this.#bounce?.[Symbol.dispose]();
    this.#parts.fd[Symbol.dispose]();
    this.#parts.directFd?.[Symbol.dispose]();
  }

  #extend(sizeBytes: number): Promise<void> {
    const { name, path, fd, lane } = this.#parts;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    lane.run({
      start: (done) => ftruncateAsync(fd.fd, sizeBytes, done),
      ended: (result) => {
        if (result >= 0) resolve();
        else
          reject(
            new DiskError(name, `${path} cannot be extended to ${sizeBytes} bytes (${getSystemErrorName(result)})`),
          );
      },
    });
    return promise;
  }

  /**
   * Guests may use buffers that direct I/O cannot take (firmware does): those are copied, since another node that has
   * the device does not see what is in this one's page cache. Parts of blocks go through that: the kernel has to read
   * the whole block for them, and keeps its page cache in step with direct I/O.
   */
  #ioFor(offsetBytes: number, vector: IoVector): Pick<FileIo, "read" | "write"> {
    const alignment = this.#parts.isBlockDevice ? this.logicalBlockBytes : PAGE_BYTES;
    const isWhole = offsetBytes % alignment === 0 && vector.lengthBytes % alignment === 0;
    if (!isWhole || !this.#direct || !this.#bounce) return this.#buffered;
    return vector.isAligned(alignment) ? this.#direct : this.#bounce;
  }
}

/** Does something else when an operation ends with one certain error. */
class Fallback implements IoCompletion {
  readonly #completion: IoCompletion;
  readonly #errno: number;
  readonly #instead: () => void;

  constructor(completion: IoCompletion, errno: number, instead: () => void) {
    this.#completion = completion;
    this.#errno = errno;
    this.#instead = instead;
  }

  completed(errno: number): void {
    if (errno === this.#errno) this.#instead();
    else this.#completion.completed(errno);
  }
}
