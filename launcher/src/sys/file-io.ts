import { constants } from "node:fs";
import { checkUninterrupted, lastErrno, SysError } from "./errors.ts";
import { OwnedFd } from "./fd.ts";
import type { IovecBlock } from "./iovec.ts";
import { libc } from "./libc.ts";

const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;
/** Modes of fallocate(2): the range reads as zeroes after, and its storage is given back, or kept. */
export const PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
export const ZERO_RANGE = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;
const AT_FDCWD = -100;
const RWF_NOWAIT = 0x08;
const OPENAT = 257;
const CREATE_MODE = 0o600;

export interface OpenOptions {
  readonly write?: boolean;
  /** Made when it is missing, readable by the owner alone. */
  readonly create?: boolean;
  /** With `create`, an error where the file is there already; of a block device, where another one has claimed it. */
  readonly exclusive?: boolean;
  /** Cut to nothing. */
  readonly truncate?: boolean;
  /** Past the page cache: offsets, lengths and addresses are then multiples of the logical block size. */
  readonly direct?: boolean;
  /** A symbolic link as the last part of the path is an error. */
  readonly noFollow?: boolean;
}

/** Flags of open(2) for `options`; always close-on-exec, and never to become the controlling terminal. */
export function openFlags(options: OpenOptions): number {
  let flags = 0o2000000 | constants.O_NOCTTY | (options.write ? constants.O_RDWR : constants.O_RDONLY);
  if (options.create) flags |= constants.O_CREAT;
  if (options.exclusive) flags |= constants.O_EXCL;
  if (options.truncate) flags |= constants.O_TRUNC;
  if (options.direct) flags |= constants.O_DIRECT;
  if (options.noFollow) flags |= constants.O_NOFOLLOW;
  return flags;
}

/** Opens `path`. Throws SysError. */
export function openFile(path: string, options: OpenOptions = {}): OwnedFd {
  const bytes = cString(path);
  const open = () => libc().syscall4(OPENAT, AT_FDCWD, bytes, openFlags(options), CREATE_MODE);
  return new OwnedFd(checkUninterrupted("open", open, path));
}

/** `text` as C takes it; RangeError where it holds a NUL, which would cut it short. */
export function cString(text: string): string {
  if (text.includes("\0")) throw new RangeError("a path cannot hold a NUL byte");
  return text;
}

/** Reads up to `target.length` bytes at `offsetBytes`; answers how many (0 at the end). */
export function pread(fd: number, target: Uint8Array, offsetBytes: number): number {
  return checkUninterrupted("pread", () => libc().pread(fd, target, target.length, offsetBytes));
}

/** Writes up to `source.length` bytes at `offsetBytes`; answers how many. */
export function pwrite(fd: number, source: Uint8Array, offsetBytes: number): number {
  return checkUninterrupted("pwrite", () => libc().pwrite(fd, source, source.length, offsetBytes));
}

/** Fills `target` from `offsetBytes` on; where the file ends first, the rest is left and the count is short. */
export function preadFully(fd: number, target: Uint8Array, offsetBytes: number): number {
  let done = 0;
  while (done < target.length) {
    const count = pread(fd, target.subarray(done), offsetBytes + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** Writes all of `source` at `offsetBytes`. */
export function pwriteFully(fd: number, source: Uint8Array, offsetBytes: number): void {
  for (let done = 0; done < source.length; ) done += pwrite(fd, source.subarray(done), offsetBytes + done);
}

/** Reads into the first `count` entries of `iovecs`; may be short. */
export function preadv(fd: number, iovecs: IovecBlock, count: number, offsetBytes: number): number {
  return checkUninterrupted("preadv", () => libc().preadv(fd, iovecs.address(), count, offsetBytes));
}

/** Writes from the first `count` entries of `iovecs`; may be short. */
export function pwritev(fd: number, iovecs: IovecBlock, count: number, offsetBytes: number): number {
  return checkUninterrupted("pwritev", () => libc().pwritev(fd, iovecs.address(), count, offsetBytes));
}

/** As preadv, but of what needs no waiting (RWF_NOWAIT): bytes read, or an errno below zero (EAGAIN, EOPNOTSUPP). */
export function preadvNoWait(fd: number, iovecs: IovecBlock, count: number, offsetBytes: number): number {
  const result = libc().preadv2(fd, iovecs.address(), count, offsetBytes, RWF_NOWAIT);
  return result < 0 ? -lastErrno() : result;
}

/** As pwritev, but of what needs no waiting (RWF_NOWAIT): bytes written, or an errno below zero. */
export function pwritevNoWait(fd: number, iovecs: IovecBlock, count: number, offsetBytes: number): number {
  const result = libc().pwritev2(fd, iovecs.address(), count, offsetBytes, RWF_NOWAIT);
  return result < 0 ? -lastErrno() : result;
}

/** Bytes moved, or an errno below zero. */
export type IoDone = (result: number) => void;

/** As preadv, on libuv's pool. `iovecs` and what they name stay as they are until `done`, which is always called. */
export function preadvAsync(fd: number, iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
  libc().preadv.async(fd, iovecs.address(), count, offsetBytes, asResult(done));
}

/** As pwritev, on libuv's pool. */
export function pwritevAsync(fd: number, iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
  libc().pwritev.async(fd, iovecs.address(), count, offsetBytes, asResult(done));
}

/** As fdatasync, on libuv's pool. */
export function fdatasyncAsync(fd: number, done: IoDone): void {
  libc().fdatasync.async(fd, asResult(done));
}

/** As punchHole, on libuv's pool. */
export function punchHoleAsync(fd: number, offsetBytes: number, lengthBytes: number, done: IoDone): void {
  libc().fallocate.async(fd, PUNCH_HOLE, offsetBytes, lengthBytes, asResult(done));
}

/** As zeroRange, on libuv's pool. */
export function zeroRangeAsync(fd: number, offsetBytes: number, lengthBytes: number, done: IoDone): void {
  libc().fallocate.async(fd, ZERO_RANGE, offsetBytes, lengthBytes, asResult(done));
}

/** An ioctl that takes long (BLKDISCARD, BLKZEROOUT), on libuv's pool. */
export function ioctlAsync(fd: number, request: number, argument: NodeJS.ArrayBufferView, done: IoDone): void {
  inFlight.add(argument);
  const finish = asResult(done);
  libc().ioctl.async(fd, request, argument, (error, result) => {
    inFlight.delete(argument);
    finish(error, result);
  });
}

/** Arguments that the kernel may still read. */
const inFlight = new Set<NodeJS.ArrayBufferView>();

function asResult(done: IoDone): (error: Error | null, result: number) => void {
  return (error, result) => done(error !== null || result < 0 ? -lastErrno() : result);
}

/** Makes what was written durable, with as much metadata as reading it back needs. */
export function fdatasync(fd: number): void {
  checkUninterrupted("fdatasync", () => libc().fdatasync(fd));
}

/** As ftruncate, on libuv's pool. */
export function ftruncateAsync(fd: number, sizeBytes: number, done: IoDone): void {
  libc().ftruncate.async(fd, sizeBytes, asResult(done));
}

export function ftruncate(fd: number, sizeBytes: number): void {
  checkUninterrupted("ftruncate", () => libc().ftruncate(fd, sizeBytes), `to ${sizeBytes} bytes`);
}

/** Reserves storage for the range, so that writing there cannot fail for want of space. */
export function allocate(fd: number, offsetBytes: number, lengthBytes: number): void {
  checkUninterrupted("fallocate", () => libc().fallocate(fd, 0, offsetBytes, lengthBytes));
}

/** Gives the storage of the range back; it reads as zeroes then. EOPNOTSUPP where the file system cannot. */
export function punchHole(fd: number, offsetBytes: number, lengthBytes: number): void {
  checkUninterrupted("fallocate", () => libc().fallocate(fd, PUNCH_HOLE, offsetBytes, lengthBytes), "punch hole");
}

/** Zeroes the range without writing it, and keeps its storage. EOPNOTSUPP where the file system cannot. */
export function zeroRange(fd: number, offsetBytes: number, lengthBytes: number): void {
  checkUninterrupted("fallocate", () => libc().fallocate(fd, ZERO_RANGE, offsetBytes, lengthBytes), "zero range");
}

/** Where data starts at or after `offsetBytes`; null when only holes follow. */
export function seekData(fd: number, offsetBytes: number): number | null {
  return seek(fd, offsetBytes, SEEK_DATA);
}

/** Where a hole starts at or after `offsetBytes` (the end of the file counts as one); null beyond the end. */
export function seekHole(fd: number, offsetBytes: number): number | null {
  return seek(fd, offsetBytes, SEEK_HOLE);
}

function seek(fd: number, offsetBytes: number, whence: number): number | null {
  const result = libc().lseek(fd, offsetBytes, whence);
  if (result >= 0) return result;
  const errno = lastErrno();
  if (errno === ENXIO) return null;
  throw new SysError("lseek", errno);
}
