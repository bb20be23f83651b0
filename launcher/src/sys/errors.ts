import { getSystemErrorMessage, getSystemErrorName } from "node:util";
import { loadKoffi } from "./koffi.ts";

/** A system call that failed. */
export class SysError extends Error {
  /** Name of the call, e.g. "mmap" or "KVM_CREATE_VM". */
  readonly call: string;
  /** Number of the error, above zero. */
  readonly errno: number;
  /** Name of the error, e.g. "ENOMEM". */
  readonly code: string;

  /** `detail` says what the call was about: a path, an address. */
  constructor(call: string, errno: number, detail?: string) {
    const code = getSystemErrorName(-errno);
    super(`${call}${detail === undefined ? "" : ` ${detail}`}: ${getSystemErrorMessage(-errno)} (${code})`);
    this.name = "SysError";
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

/** errno of the last native call; any call of Node's own overwrites it, so it is read at once. */
export function lastErrno(): number {
  return loadKoffi().errno();
}

/** `result` when it is none of an error; throws SysError when it is negative. */
export function check(call: string, result: number, detail?: string): number {
  if (result < 0) throw new SysError(call, lastErrno(), detail);
  return result;
}

const EINTR = 4;

/** Calls `call` until it is no longer interrupted by a signal; its result, or SysError. */
export function checkUninterrupted(name: string, call: () => number, detail?: string): number {
  for (;;) {
    const result = call();
    if (result >= 0) return result;
    const errno = lastErrno();
    if (errno !== EINTR) throw new SysError(name, errno, detail);
  }
}
