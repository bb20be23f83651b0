import { fstatSync } from "node:fs";
import { CLUSTER_BYTES } from "./cluster-map.ts";

/** The unit of st_blocks (stat(2)). */
const STAT_BLOCK_BYTES = 512;

/**
 * How much of its volume an overlay may take. What counts is what its file has allocated, as the kubelet counts it, and
 * what writes that are under way may add. The file is looked at only when what is known of it does not suffice.
 */
export class OverlayBudget {
  /** Null once the file is closed. */
  #fd: number | null;
  #limitBytes: number;
  /** What the file had when it was last looked at. */
  #seenBytes = 0;
  /** What was taken since. */
  #takenBytes = 0;
  /** Of that, what is under way. */
  #pendingBytes = 0;
  #isFull = false;

  constructor(fd: number, limitBytes = Number.POSITIVE_INFINITY) {
    this.#fd = fd;
    this.#limitBytes = limitBytes;
  }

  /** Infinite where there is none. */
  get limitBytes(): number {
    return this.#limitBytes;
  }

  /** A lower limit takes nothing back. */
  set limitBytes(bytes: number) {
    this.#limitBytes = bytes;
    this.#isFull = false;
  }

  /** As it was at last where the file is closed. */
  get usedBytes(): number {
    this.#look();
    return this.#seenBytes;
  }

  /** What was last asked for was not to be had. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Takes room for so many clusters that the file does not have yet; false where there is none. */
  take(clusters: number): boolean {
    if (clusters === 0) return true;
    const bytes = clusters * CLUSTER_BYTES;
    if (!this.#hasRoom(bytes)) {
      this.#look();
      this.#isFull = !this.#hasRoom(bytes);
      if (this.#isFull) return false;
    }
    this.#isFull = false;
    this.#takenBytes += bytes;
    this.#pendingBytes += bytes;
    return true;
  }

  /** The write that took so many clusters has ended, well or not. */
  settle(clusters: number): void {
    this.#pendingBytes -= clusters * CLUSTER_BYTES;
  }

  /** The file is about to be closed. */
  close(): void {
    this.#look();
    this.#fd = null;
  }

  #look(): void {
    if (this.#fd === null) return;
    this.#seenBytes = fstatSync(this.#fd).blocks * STAT_BLOCK_BYTES;
    this.#takenBytes = this.#pendingBytes;
  }

  #hasRoom(bytes: number): boolean {
    return this.#seenBytes + this.#takenBytes + bytes <= this.#limitBytes;
  }
}
