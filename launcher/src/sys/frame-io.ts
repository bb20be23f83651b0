import { lastErrno } from "./errors.ts";
import type { IovecBlock } from "./iovec.ts";
import { libc } from "./libc.ts";

const EINTR = 4;

/**
 * One frame of a TAP into `count` entries of `iovecs` from `first` on: its length, or an errno below zero. What does not
 * fit is lost.
 */
export function readFrame(fd: number, iovecs: IovecBlock, first: number, count: number): number {
  for (;;) {
    const result = libc().readv(fd, iovecs.address(first), count);
    if (result >= 0) return result;
    const errno = lastErrno();
    if (errno !== EINTR) return -errno;
  }
}

/** Writes one frame from `count` entries of `iovecs` from `first` on: its length, or an errno below zero. */
export function writeFrame(fd: number, iovecs: IovecBlock, first: number, count: number): number {
  for (;;) {
    const result = libc().writev(fd, iovecs.address(first), count);
    if (result >= 0) return result;
    const errno = lastErrno();
    if (errno !== EINTR) return -errno;
  }
}

/** One packet of a socket into `target`: its length, or an errno below zero. */
export function readPacket(fd: number, target: Uint8Array): number {
  const result = libc().read(fd, target, target.length);
  return result < 0 ? -lastErrno() : result;
}

/** Sends one packet: its length, or an errno below zero. */
export function writePacket(fd: number, packet: Uint8Array): number {
  const result = libc().write(fd, packet, packet.length);
  return result < 0 ? -lastErrno() : result;
}
