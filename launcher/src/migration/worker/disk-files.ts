import { constants } from "node:os";
import { HEAD_BYTES } from "../../storage/incoming-device.ts";
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
  /** See DiskContents. */
  readonly headFd: number | null;
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
    this.#do("written", () => {
      const { fd, headFd } = this.#disk;
      const ofHead = this.#ofHead(offsetBytes, bytes.length);
      if (headFd !== null && ofHead > 0) pwriteFully(headFd, bytes.subarray(0, ofHead), offsetBytes);
      if (ofHead < bytes.length) pwriteFully(fd, bytes.subarray(ofHead), offsetBytes + ofHead);
    });
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    const { fd, headFd, isBlockDevice } = this.#disk;
    const ofHead = this.#ofHead(offsetBytes, lengthBytes);
    const [start, left] = [offsetBytes + ofHead, lengthBytes - ofHead];
    this.#do("zeroed", () => {
      if (headFd !== null && ofHead > 0) pwriteFully(headFd, new Uint8Array(ofHead), offsetBytes);
      if (left > 0 && !hasPunched(fd, start, left)) (isBlockDevice ? zeroOut : writeZeroes)(fd, start, left);
    });
  }

  /** How many bytes of a range, from its start on, wait beside the disk. */
  #ofHead(offsetBytes: number, lengthBytes: number): number {
    return this.#disk.headFd === null ? 0 : Math.max(0, Math.min(lengthBytes, HEAD_BYTES - offsetBytes));
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

/** Gives the storage of a range back; false where neither file system nor device can. */
function hasPunched(fd: number, offsetBytes: number, lengthBytes: number): boolean {
  try {
    punchHole(fd, offsetBytes, lengthBytes);
    return true;
  } catch (error) {
    if (error instanceof SysError && error.errno === constants.errno.EOPNOTSUPP) return false;
    throw error;
  }
}

function writeZeroes(fd: number, offsetBytes: number, lengthBytes: number): void {
  using zeroes = Mapping.anonymous(Math.min(ZERO_BYTES, lengthBytes));
  for (let done = 0; done < lengthBytes; done += zeroes.sizeBytes) {
    const bytes = new Uint8Array(zeroes.buffer, 0, Math.min(zeroes.sizeBytes, lengthBytes - done));
    pwriteFully(fd, bytes, offsetBytes + done);
  }
}
