import { countBits, setBits } from "./bits.ts";
import { CLUSTER_BYTES, type ClusterMap } from "./cluster-map.ts";

/** What changes of a disk are noted in: 2 MiB of bits for a disk of 1 TiB. */
export const BLOCK_BYTES = 64 * 1024;

const BLOCK_CLUSTERS = BLOCK_BYTES / CLUSTER_BYTES;

/** A bit for each block of a disk, in memory that threads can share. */
export class BlockBitmap {
  readonly sizeBytes: number;
  readonly buffer: SharedArrayBuffer;
  readonly words: Uint32Array;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.buffer = new SharedArrayBuffer(Math.ceil(sizeBytes / BLOCK_BYTES / 32) * 4);
    this.words = new Uint32Array(this.buffer);
  }

  /** All of a disk. */
  static full(sizeBytes: number): BlockBitmap {
    const bitmap = new BlockBitmap(sizeBytes);
    bitmap.mark(0, sizeBytes);
    return bitmap;
  }

  /** The blocks that hold a cluster of `map`. */
  static of(map: ClusterMap, sizeBytes: number): BlockBitmap {
    const bitmap = new BlockBitmap(sizeBytes);
    for (const { index, words } of map.chunks) {
      words.forEach((word, i) => {
        if (word === 0) return;
        const cluster = (index * words.length + i) * 32;
        const lengthBytes = (32 / BLOCK_CLUSTERS) * BLOCK_BYTES;
        bitmap.mark(cluster * CLUSTER_BYTES, lengthBytes);
      });
    }
    return bitmap;
  }

  /** Marks the blocks that the range touches; what lies beyond the disk is nobody's. */
  mark(offsetBytes: number, lengthBytes: number): void {
    const end = Math.min(offsetBytes + lengthBytes, this.sizeBytes);
    if (end <= offsetBytes) return;
    setBits(this.words, Math.floor(offsetBytes / BLOCK_BYTES), Math.ceil(end / BLOCK_BYTES) - 1);
  }

  /** Marks what `other`, of the same disk, has marked. */
  addAll(other: BlockBitmap): void {
    for (let i = 0; i < this.words.length; i++) this.words[i] = (this.words[i] ?? 0) | (other.words[i] ?? 0);
  }

  clear(): void {
    this.words.fill(0);
  }

  /** Of whole blocks. */
  get markedBytes(): number {
    return countBits(this.words) * BLOCK_BYTES;
  }
}
