import { lastErrno } from "./errors.ts";
import { type OwnedFd, ownFd } from "./fd.ts";
import { libc } from "./libc.ts";

const PIDFD_OPEN = 434;

/** A descriptor of process `pid` (pidfd_open(2)); readable once it ended. Throws SysError (ESRCH). */
export function openPidFd(pid: number): OwnedFd {
  return ownFd("pidfd_open", libc().syscall2(PIDFD_OPEN, pid, 0), `process ${pid}`);
}

const PIDFD_GETFD = 438;

/**
 * A descriptor of its own for what is open as `targetFd` in another process (pidfd_getfd(2), Linux 5.6): the same open
 * file. The caller has to be allowed to trace that process. Throws SysError (EBADF, EPERM, ESRCH).
 */
export function copyDescriptor(pidFd: number, targetFd: number): OwnedFd {
  const result = libc().syscall6(PIDFD_GETFD, pidFd, targetFd, 0, 0, 0, 0);
  return ownFd("pidfd_getfd", result, `descriptor ${targetFd}`);
}

const PIDFD_SEND_SIGNAL = 424;
const EPERM = 1;

/** True while the process of the descriptor lives; one that this process may not signal counts too. */
export function pidFdIsAlive(fd: number): boolean {
  return libc().syscall4(PIDFD_SEND_SIGNAL, fd, null, null, 0) === 0 || lastErrno() === EPERM;
}
