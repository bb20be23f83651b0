import { type IoDone, ioctlAsync } from "./file-io.ts";
import { ioctl } from "./ioctl.ts";

// <linux/fs.h>
const BLKSSZGET = 0x1268;
const BLKDISCARD = 0x1277;
const BLKZEROOUT = 0x127f;
const BLKGETSIZE64 = 0x80081272;

/** Size of a block device. Throws SysError (ENOTTY) where `fd` is none. */
export function blockDeviceSizeBytes(fd: number): number {
  const size = new DataView(new ArrayBuffer(8));
  ioctl(fd, "BLKGETSIZE64", BLKGETSIZE64, size);
  return size.getUint32(0, true) + size.getUint32(4, true) * 2 ** 32;
}

/** What direct I/O on the device must be aligned to. */
export function logicalBlockSizeBytes(fd: number): number {
  const size = new Int32Array(new ArrayBuffer(4));
  ioctl(fd, "BLKSSZGET", BLKSSZGET, size);
  return size[0] ?? 512;
}

/** Tells the device that the range is not needed; what it reads as then is undefined. On libuv's pool. */
export function discardAsync(fd: number, offsetBytes: number, lengthBytes: number, done: IoDone): void {
  ioctlAsync(fd, BLKDISCARD, range(offsetBytes, lengthBytes), done);
}

/** Zeroes the range, by the fastest way that the device has. On libuv's pool. */
export function zeroOutAsync(fd: number, offsetBytes: number, lengthBytes: number, done: IoDone): void {
  ioctlAsync(fd, BLKZEROOUT, range(offsetBytes, lengthBytes), done);
}

/** As zeroOutAsync, in this thread. */
export function zeroOut(fd: number, offsetBytes: number, lengthBytes: number): void {
  ioctl(fd, "BLKZEROOUT", BLKZEROOUT, range(offsetBytes, lengthBytes));
}

function range(offsetBytes: number, lengthBytes: number): DataView {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint32(0, offsetBytes % 2 ** 32, true);
  view.setUint32(4, Math.floor(offsetBytes / 2 ** 32), true);
  view.setUint32(8, lengthBytes % 2 ** 32, true);
  view.setUint32(12, Math.floor(lengthBytes / 2 ** 32), true);
  return view;
}
