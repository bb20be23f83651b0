import { lastErrno, SysError } from "./errors.ts";
import { libc, type Pointer } from "./libc.ts";

const EINTR = 4;

/**
 * ioctl(2): `name` is for the error, `argument` a number or the memory of a struct. Interrupted calls are repeated.
 * Answers the result (0 or more); throws SysError.
 */
export function ioctl(fd: number, name: string, request: number, argument: Pointer = null): number {
  for (;;) {
    const result = libc().ioctl(fd, request, argument);
    if (result >= 0) return result;
    const errno = lastErrno();
    if (errno !== EINTR) throw new SysError(name, errno);
  }
}

const DIRECTION_WRITE = 1;
const DIRECTION_READ = 2;

function encode(direction: number, type: number, number: number, sizeBytes: number): number {
  return ((direction << 30) | (sizeBytes << 16) | (type << 8) | number) >>> 0;
}

/** Request numbers as <asm-generic/ioctl.h> makes them: no data, data to the kernel, from it, or both ways. */
export const ioctlNumber = {
  none: (type: number, number: number) => encode(0, type, number, 0),
  write: (type: number, number: number, sizeBytes: number) => encode(DIRECTION_WRITE, type, number, sizeBytes),
  read: (type: number, number: number, sizeBytes: number) => encode(DIRECTION_READ, type, number, sizeBytes),
  readWrite: (type: number, number: number, sizeBytes: number) =>
    encode(DIRECTION_READ | DIRECTION_WRITE, type, number, sizeBytes),
};
