import {
  fdatasyncAsync,
  type IoDone,
  preadvAsync,
  punchHoleAsync,
  pwritevAsync,
  zeroRangeAsync,
} from "../sys/file-io.ts";
import type { IoUring } from "../sys/io-uring.ts";
import type { IovecBlock } from "../sys/iovec.ts";

/**
 * The calls on one open file that may wait. Each ends with bytes moved or an errno below zero, perhaps before it
 * returns; what it names stays as it is until then.
 */
export interface FileCalls {
  readv(iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void;
  writev(iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void;
  fdatasync(done: IoDone): void;
  punchHole(offsetBytes: number, lengthBytes: number, done: IoDone): void;
  zeroRange(offsetBytes: number, lengthBytes: number, done: IoDone): void;
}

/** On libuv's pool. */
export class PoolCalls implements FileCalls {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  readv(iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
    preadvAsync(this.#fd, iovecs, count, offsetBytes, done);
  }

  writev(iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
    pwritevAsync(this.#fd, iovecs, count, offsetBytes, done);
  }

  fdatasync(done: IoDone): void {
    fdatasyncAsync(this.#fd, done);
  }

  punchHole(offsetBytes: number, lengthBytes: number, done: IoDone): void {
    punchHoleAsync(this.#fd, offsetBytes, lengthBytes, done);
  }

  zeroRange(offsetBytes: number, lengthBytes: number, done: IoDone): void {
    zeroRangeAsync(this.#fd, offsetBytes, lengthBytes, done);
  }
}

/** In a ring. */
export class RingCalls implements FileCalls {
  readonly #ring: IoUring;
  readonly #file: number;

  /** `file` is the number that `ring.addFile` gave. */
  constructor(ring: IoUring, file: number) {
    this.#ring = ring;
    this.#file = file;
  }

  readv(iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
    this.#ring.readv(this.#file, iovecs, count, offsetBytes, done);
  }

  writev(iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
    this.#ring.writev(this.#file, iovecs, count, offsetBytes, done);
  }

  fdatasync(done: IoDone): void {
    this.#ring.fdatasync(this.#file, done);
  }

  punchHole(offsetBytes: number, lengthBytes: number, done: IoDone): void {
    this.#ring.punchHole(this.#file, offsetBytes, lengthBytes, done);
  }

  zeroRange(offsetBytes: number, lengthBytes: number, done: IoDone): void {
    this.#ring.zeroRange(this.#file, offsetBytes, lengthBytes, done);
  }
}
