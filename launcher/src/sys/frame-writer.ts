import { Aio } from "./aio.ts";
import { SysError } from "./errors.ts";
import { writeFrame } from "./frame-io.ts";
import type { IovecBlock } from "./iovec.ts";

/** What the kernel gets together at the most: more gain nothing measurable, and each waits for the last. */
export const WRITE_BATCH = 16;
/** Below, a system call for each costs less. */
const AIO_FRAMES_MIN = 4;

/** Frames of a batch: each is the iovecs from where the one before ends up to its own end. */
export interface FrameRanges {
  readonly iovecs: IovecBlock;
  readonly ends: Uint16Array;
}

/** Writes frames to TAPs: with one system call for several where the kernel lets it, otherwise with one each. */
export class FrameWriter implements Disposable {
  readonly #open: (capacity: number) => Aio;
  /** Undefined until there were frames enough for it, null where there is none. */
  #aio: Aio | null | undefined;

  constructor(open: (capacity: number) => Aio = Aio.open) {
    this.#open = open;
  }

  /** Writes `count` frames, at most WRITE_BATCH, in order: `results` gets the length of each, or an errno below zero. */
  write(fd: number, { iovecs, ends }: FrameRanges, count: number, results: Int32Array): void {
    const aio = count < AIO_FRAMES_MIN ? null : this.#opened();
    for (let i = 0, first = 0; i < count; i++) {
      const end = ends[i] ?? 0;
      if (aio) aio.addWritev(fd, iovecs.address(first), end - first);
      else results[i] = writeFrame(fd, iovecs, first, end - first);
      first = end;
    }
    aio?.run(results);
  }

  #opened(): Aio | null {
    if (this.#aio !== undefined) return this.#aio;
    try {
      this.#aio = this.#open(WRITE_BATCH);
    } catch (error) {
      // No AIO in the kernel (ENOSYS), a seccomp profile (EPERM), or fs.aio-max-nr is reached (EAGAIN).
      if (!(error instanceof SysError)) throw error;
      this.#aio = null;
    }
    return this.#aio;
  }

  [Symbol.dispose](): void {
    this.#aio?.[Symbol.dispose]();
    this.#aio = null;
  }
}
