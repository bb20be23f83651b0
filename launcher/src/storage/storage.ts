import type { DiskContents } from "./disk-contents.ts";
import type { IoVector } from "./io-vector.ts";
import type { OverlayBudget } from "./overlay-budget.ts";

/** What virtio-blk counts in, whatever the disk's blocks are (virtio 1.2, section 5.2). */
export const SECTOR_BYTES = 512;

/** Of what one disk saves of itself: the map of an overlay that holds 256 GiB. */
export const STORAGE_STATE_LIMIT_BYTES = 10 * 2 ** 20;

/** Told once how an operation ended, from the event loop, perhaps before the call that started it returns. */
export interface IoCompletion {
  /** `errno` is 0 when all of it was done, else the number of the error. */
  completed(errno: number): void;
}

/** What can be read as a disk can: a file, or an image in some format. */
export interface ReadSource {
  /** As `Storage.read`. */
  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void;
}

/**
 * A disk's contents. Offsets and lengths are bytes, multiples of 512 and inside the disk: the caller has checked.
 * Operations run in any order; overlapping ones that are under way at the same time have no order. A vector belongs to
 * the storage until `completed`, and is used up by it; after a write that failed it holds what is still to be written.
 */
export interface Storage {
  /** Only `grow` changes it. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** What it turned out to be, for a log. */
  readonly description?: string;
  /** What offsets and lengths have to be multiples of; 512 or more, a power of two. */
  readonly logicalBlockBytes: number;
  /** What they better are multiples of. */
  readonly physicalBlockBytes: number;

  /** Of a disk that writes beside its image: how much it may write. */
  readonly overlay?: OverlayBudget;

  /** Fills the memory of `vector` from `offsetBytes` on. */
  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void;
  /** Writes the memory of `vector` to `offsetBytes`. It is durable after a flush that starts when this has completed. */
  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void;
  flush(completion: IoCompletion): void;
  /** The range is not needed any more: it may read as anything. */
  discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void;
  /** The range reads as zeroes; its storage may be given back if `mayUnmap`. */
  writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void;
  /** The one who asked for what is under way has gone: what waits rather than fails is to fail. */
  abandon?(): void;
  /** Lets another machine have the disk: nothing is under way, and nothing is started before `claim`. */
  release?(): void;
  /**
   * Takes the disk, where it was released, or opened to be claimed later. Throws DiskError where another machine has it. What
   * was made for a migration to fill is gone when it is closed without that.
   */
  claim?(): void;
  /** For whoever copies it; null or absent where there is nothing to copy: it is read-only. */
  contents?(): DiskContents | null;
  /** What the disk knows beyond its files, at most STORAGE_STATE_LIMIT_BYTES; nothing is under way. Absent where that is nothing. */
  saveState?(): Uint8Array;
  /** Before the first operation, on the same files. Throws CodecError. */
  restoreState?(state: Uint8Array, version: number): void;
  /** What waits for its turn, by a limit, starts at once. */
  hurry?(): void;
  /**
   * Makes the disk larger: to `sizeBytes`, or where something else decides that, to the size that there is by now. One
   * call at a time. Absent from disks that cannot grow; rejects with DiskError where it does not work, or would shrink.
   */
  grow?(sizeBytes: number): Promise<void>;
  /** Waits for what is under way, then closes. Nothing is started after. */
  close(): Promise<void>;
}

/** Told what is of use to who looks after a machine. */
export interface DiskEvents {
  opened(disk: string, description: string): void;
  /** What is wrong with a disk's image, when a request meets it, which fails then. As often as a guest makes it happen. */
  damaged(disk: string, problem: string): void;
}
