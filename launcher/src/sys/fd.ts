import { check } from "./errors.ts";
import { libc } from "./libc.ts";

/** Closes a descriptor. EINTR counts as closed: Linux has let go of it by then. */
export function closeFd(fd: number): void {
  libc().close(fd);
}

/** A file descriptor that closes with its owner: exactly once, whoever asks. */
export class OwnedFd implements Disposable {
  #fd: number;

  constructor(fd: number) {
    if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`not a file descriptor: ${fd}`);
    this.#fd = fd;
  }

  /** The number; throws once it is closed or taken, since it may be someone else's by then. */
  get fd(): number {
    if (this.#fd < 0) throw new Error("the file descriptor is closed");
    return this.#fd;
  }

  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /** Gives the number away: from now on the caller closes it. */
  take(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeFd(this.take());
  }
}

const F_DUPFD_CLOEXEC = 1030;

/** Another descriptor of the same open file, which stays open whatever becomes of `fd`. */
export function duplicateFd(fd: number): OwnedFd {
  return ownFd("fcntl", libc().fcntl(fd, F_DUPFD_CLOEXEC, 0), "F_DUPFD_CLOEXEC");
}

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

/** Reads and writes of the descriptor, and of all that share its description, answer EAGAIN where they would wait. */
export function setNonBlocking(fd: number): void {
  const flags = check("fcntl", libc().fcntl(fd, F_GETFL, 0));
  check("fcntl", libc().fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

/** A descriptor that a call made, or SysError. */
export function ownFd(call: string, result: number, detail?: string): OwnedFd {
  return new OwnedFd(check(call, result, detail));
}
