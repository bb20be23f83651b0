import type { ClusterMap } from "./cluster-map.ts";

/** What a disk consists of, for whoever copies it to another launcher, or fills it from there. Descriptors are the disk's. */
export interface DiskContents {
  /** Has the bytes of the disk at their offsets; past the page cache where the disk's own requests go past it. */
  readonly fd: number;
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  /** There is more to it than this process: what is written has to be flushed. */
  readonly outlivesProcess: boolean;
  /** It was made anew, and holds nothing yet. */
  readonly isBlank: boolean;
  /** Takes what belongs to the disk's first HEAD_BYTES, which are a mark until it is claimed; null where they are no others. */
  readonly headFd: number | null;
  /** Of a disk that is written over an image; the other side has that too. */
  readonly overlay: OverlayContents | null;
}

export interface OverlayContents {
  /** The image's file, which is read-only. */
  readonly imageFd: number;
  /** Which clusters are the overlay's; it goes along with the machine's state. */
  readonly held: ClusterMap;
}
