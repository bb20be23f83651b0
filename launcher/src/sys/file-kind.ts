import { check } from "./errors.ts";
import { addressOf } from "./koffi.ts";
import { libc } from "./libc.ts";

const STATX = 332;
// <fcntl.h>, <linux/stat.h>
const AT_EMPTY_PATH = 0x1000;
const AT_STATX_DONT_SYNC = 0x4000;
const STATX_TYPE = 1;
const STATX_BYTES = 256;
const MODE = 28;
const RDEV_MAJOR = 128;
const RDEV_MINOR = 132;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFBLK = 0o060000;

export interface FileKind {
  readonly isFile: boolean;
  readonly isBlockDevice: boolean;
  /** As in `fs.BigIntStats`. */
  readonly rdev: bigint;
}

/** What an open file is, without asking its file system, which may be a server that does not answer. Throws SysError. */
export function fileKindOf(fd: number): FileKind {
  const path = new Uint8Array(new ArrayBuffer(1));
  const result = new DataView(new ArrayBuffer(STATX_BYTES));
  const flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  check("statx", libc().syscall6(STATX, fd, addressOf(path), flags, STATX_TYPE, addressOf(result), 0));
  const type = result.getUint16(MODE, true) & S_IFMT;
  return {
    isFile: type === S_IFREG,
    isBlockDevice: type === S_IFBLK,
    rdev: deviceNumber(BigInt(result.getUint32(RDEV_MAJOR, true)), BigInt(result.getUint32(RDEV_MINOR, true))),
  };
}

/** makedev(3). */
function deviceNumber(major: bigint, minor: bigint): bigint {
  return ((major & 0xfffff000n) << 32n) | ((major & 0xfffn) << 8n) | ((minor & 0xffffff00n) << 12n) | (minor & 0xffn);
}
