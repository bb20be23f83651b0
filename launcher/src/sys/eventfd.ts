import { checkUninterrupted, lastErrno, SysError } from "./errors.ts";
import { type OwnedFd, ownFd } from "./fd.ts";
import { libc } from "./libc.ts";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const EAGAIN = 11;

/** A counter in the kernel that wakes who watches it (eventfd(2)), closed when disposed. */
export class EventFd implements Disposable {
  readonly #owned: OwnedFd;
  readonly #count = new BigUint64Array(new ArrayBuffer(8));

  constructor() {
    this.#owned = ownFd("eventfd", libc().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }

  get fd(): number {
    return this.#owned.fd;
  }

  /** Adds one. */
  signal(): void {
    this.#count[0] = 1n;
    checkUninterrupted("write eventfd", () => libc().write(this.fd, this.#count, 8));
  }

  /** Takes what was signalled since; false when nothing was. */
  drain(): boolean {
    if (libc().read(this.fd, this.#count, 8) === 8) return true;
    const errno = lastErrno();
    if (errno === EAGAIN) return false;
    throw new SysError("read eventfd", errno);
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }
}
