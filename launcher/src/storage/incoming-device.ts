import { fdatasyncAsync, pread, pwriteFully } from "../sys/file-io.ts";
import { pageAlignedBuffer } from "../sys/host-memory.ts";
import { createMemfd } from "../sys/mapping.ts";

/** What of a device a migration brings last. */
export const HEAD_BYTES = 4096;
/** The least that a disk has. */
const MARK_BYTES = 512;
const MARK = Buffer.alloc(MARK_BYTES, "typevisor: a migration has not finished this disk\n".padEnd(64));

/** Whether a migration that never came to its end has written to the device or file. */
export function isMarkedUnfinished(fd: number): boolean {
  const found = Buffer.alloc(MARK_BYTES);
  return pread(fd, found, 0) === MARK_BYTES && found.equals(MARK);
}

export interface OpenIncomingDevice {
  /** Takes aligned writes; the disk's, which closes it later. */
  readonly fd: number;
  readonly sizeBytes: number;
}

/**
 * A block device, or raw file, that a migration fills. It has no place for a file beside it, so its own first bytes are the mark
 * that it is unfinished, and those of the disk wait in memory until it is kept.
 */
export class IncomingDevice implements Disposable {
  readonly #device: OpenIncomingDevice;
  readonly #head = createMemfd("head", HEAD_BYTES);

  /** Writes the mark. */
  constructor(device: OpenIncomingDevice) {
    this.#device = device;
    const bytes = pageAlignedBuffer(HEAD_BYTES);
    bytes.fill(0);
    for (let at = 0; at < HEAD_BYTES; at += MARK_BYTES) bytes.set(MARK, at);
    pwriteFully(device.fd, bytes.subarray(0, this.#lengthBytes), 0);
  }

  /** Takes the first HEAD_BYTES of the disk, at their offsets, from whoever fills it; null once it is kept. */
  get headFd(): number | null {
    return this.#head.isOpen ? this.#head.fd : null;
  }

  get #lengthBytes(): number {
    return Math.min(HEAD_BYTES, this.#device.sizeBytes);
  }

  /** All has come, and the guest is about to use it. Durable a moment later, as that of a file in a claim is. */
  keep(): void {
    if (!this.#head.isOpen) return;
    const { fd } = this.#device;
    const bytes = pageAlignedBuffer(HEAD_BYTES).subarray(0, this.#lengthBytes);
    pread(this.#head.fd, bytes, 0);
    pwriteFully(fd, bytes, 0);
    this.#head[Symbol.dispose]();
    fdatasyncAsync(fd, () => {});
  }

  /** Unless it is kept the mark stays. */
  [Symbol.dispose](): void {
    this.#head[Symbol.dispose]();
  }
}
