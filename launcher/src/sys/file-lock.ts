import { lastErrno, SysError } from "./errors.ts";
import { libc } from "./libc.ts";

// <fcntl.h>: locks that belong to the open file, so that they end with it and are seen within one process too.
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const EACCES = 13;
const EAGAIN = 11;
/** File systems without locks say one of these: EINVAL, ENOSYS, ENOLCK, EOPNOTSUPP. */
const WITHOUT_LOCKS = new Set([22, 38, 37, 95]);
/** sizeof(struct flock), LP64. */
const FLOCK_BYTES = 32;

/**
 * Locks the whole file until it is closed, against all who lock it too. "taken" when another one has it;
 * "unsupported" where the file system knows no locks. Throws SysError.
 */
export function lockFile(fd: number, kind: "shared" | "exclusive"): "locked" | "taken" | "unsupported" {
  const flock = wholeFile(kind === "shared" ? F_RDLCK : F_WRLCK);
  if (libc().fcntl(fd, F_OFD_SETLK, flock) === 0) return "locked";
  const errno = lastErrno();
  if (errno === EAGAIN || errno === EACCES) return "taken";
  if (WITHOUT_LOCKS.has(errno)) return "unsupported";
  throw new SysError("fcntl F_OFD_SETLK", errno);
}

/** Gives up the lock of `lockFile`. */
export function unlockFile(fd: number): void {
  libc().fcntl(fd, F_OFD_SETLK, wholeFile(F_UNLCK));
}

function wholeFile(type: number): DataView {
  const flock = new DataView(new ArrayBuffer(FLOCK_BYTES));
  flock.setInt16(0, type, true);
  return flock;
}
