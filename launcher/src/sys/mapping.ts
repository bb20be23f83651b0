import { check } from "./errors.ts";
import { OwnedFd, ownFd } from "./fd.ts";
import { viewOf } from "./koffi.ts";
import { libc } from "./libc.ts";

const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MFD_CLOEXEC = 1;
const MADV_DONTDUMP = 16;

/** Memory mapped into the process, seen by JavaScript as `buffer` and by the kernel at `hostAddress`. */
export class Mapping implements Disposable {
  readonly hostAddress: number;
  readonly sizeBytes: number;
  readonly #buffer: ArrayBuffer;

  private constructor(hostAddress: number, sizeBytes: number) {
    this.hostAddress = hostAddress;
    this.sizeBytes = sizeBytes;
    this.#buffer = viewOf(hostAddress, sizeBytes);
  }

  /** Private zeroed memory, in whole pages: it neither moves nor is collected, so the kernel may keep its address. */
  static anonymous(sizeBytes: number): Mapping {
    return Mapping.#map(sizeBytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  }

  /** `sizeBytes` of `fd`, shared with whoever maps it too. Pages take memory when they are first touched. */
  static shared(fd: number, sizeBytes: number, offsetBytes = 0): Mapping {
    return Mapping.#map(sizeBytes, MAP_SHARED | MAP_NORESERVE, fd, offsetBytes);
  }

  static #map(sizeBytes: number, flags: number, fd: number, offsetBytes = 0): Mapping {
    const address = libc().mmap(0, sizeBytes, PROT_READ_WRITE, flags, fd, offsetBytes);
    return new Mapping(check("mmap", address, `${sizeBytes} bytes`), sizeBytes);
  }

  /** Empty once the mapping is disposed: views of it then have length zero, and cannot touch what is gone. */
  get buffer(): ArrayBuffer {
    return this.#buffer;
  }

  /** Keeps the contents out of core dumps: they are the guest's secrets. */
  excludeFromCoreDump(): void {
    check("madvise", libc().madvise(this.hostAddress, this.sizeBytes, MADV_DONTDUMP));
  }

  [Symbol.dispose](): void {
    if (this.#buffer.detached) return;
    this.#buffer.transfer();
    check("munmap", libc().munmap(this.hostAddress, this.sizeBytes));
  }
}

/** A file of `sizeBytes` zeroes that lives in memory only (memfd_create(2)). `name` shows in /proc/PID/maps. */
export function createMemfd(name: string, sizeBytes: number): OwnedFd {
  using owned = ownFd("memfd_create", libc().memfd_create(name, MFD_CLOEXEC));
  check("ftruncate", libc().ftruncate(owned.fd, sizeBytes), `memfd to ${sizeBytes} bytes`);
  return new OwnedFd(owned.take());
}
