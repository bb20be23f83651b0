import { constants } from "node:os";
import { zeroOut } from "../../sys/block-device.ts";
import { SysError } from "../../sys/errors.ts";
import { fdatasync, punchHole, pwriteFully } from "../../sys/file-io.ts";
import { Mapping } from "../../sys/mapping.ts";
import type { DiskTarget } from "./disk-frames.ts";

/** A disk of the target, as its threads are told of it. */
export interface ReceivedDisk {
  readonly name: string;
  readonly fd: number;
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  readonly outlivesProcess: boolean;
}

const ZERO_BYTES = 2 ** 20;

/** Writes what comes of one disk. What fails names the disk. */
export class DiskFile implements DiskTarget {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #disk: ReceivedDisk;
  #isWritten = false;

  constructor(disk: ReceivedDisk) {
    this.name = disk.name;
    this.sizeBytes = disk.sizeBytes;
    this.#disk = disk;
  }

  write(offsetBytes: number, bytes: Uint8Array): void {
    this.#do("written", () => pwriteFully(this.#disk.fd, bytes, offsetBytes));
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    const { fd, isBlockDevice } = this.#disk;
    this.#do("zeroed", () => {
      if (isBlockDevice) zeroOut(fd, offsetBytes, lengthBytes);
      else zeroFile(fd, offsetBytes, lengthBytes);
    });
  }

  /** What was written since is durable when it returns, where that means something. */
  flush(): void {
    if (!this.#isWritten || !this.#disk.outlivesProcess) return;
    this.#do("flushed", () => fdatasync(this.#disk.fd));
    this.#isWritten = false;
  }

  #do(what: string, work: () => void): void {
    this.#isWritten = true;
    try {
      work();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`disk ${this.name} cannot be ${what} (${why}); see its storage`, { cause });
    }
  }
}

/** Where the file system has no holes, zeroes are written. */
function zeroFile(fd: number, offsetBytes: number, lengthBytes: number): void {
  try {
    punchHole(fd, offsetBytes, lengthBytes);
  } catch (error) {
    if (!(error instanceof SysError && error.errno === constants.errno.EOPNOTSUPP)) throw error;
    using zeroes = Mapping.anonymous(Math.min(ZERO_BYTES, lengthBytes));
    for (let done = 0; done < lengthBytes; done += zeroes.sizeBytes) {
      const bytes = new Uint8Array(zeroes.buffer, 0, Math.min(zeroes.sizeBytes, lengthBytes - done));
      pwriteFully(fd, bytes, offsetBytes + done);
    }
  }
}
