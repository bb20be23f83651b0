import { BlockBitmap } from "./block-bitmap.ts";
import type { DiskContents } from "./disk-contents.ts";
import type { IoVector } from "./io-vector.ts";
import type { IoCompletion, Storage } from "./storage.ts";
import { StorageLayer } from "./storage-layer.ts";

/**
 * A disk of which it is known what changes, while somebody copies it. A change is noted when it has ended, whether well or
 * not: what was under way while a block was copied is found in the next pass.
 */
export class TrackedDisk extends StorageLayer {
  readonly #spare: Change[] = [];
  /** Null while nobody copies it. */
  #changed: BlockBitmap | null = null;

  constructor(below: Storage) {
    super(below);
  }

  /** Null where its bytes are nobody's to copy. */
  contents(): DiskContents | null {
    return this.below.contents?.() ?? null;
  }

  /** From now on each change that ends is noted; also one that began before. */
  startTracking(): void {
    this.#changed = new BlockBitmap(this.sizeBytes);
  }

  /** Adds what has changed since it was last asked to `bitmap`, of a disk as large as this one was at the start. */
  collectChanges(bitmap: BlockBitmap): void {
    if (!this.#changed) throw new TypeError("changes are not tracked");
    bitmap.addAll(this.#changed);
    this.#changed.clear();
  }

  stopTracking(): void {
    this.#changed = null;
  }

  override write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.below.write(offsetBytes, vector, this.#change(offsetBytes, vector.lengthBytes, completion));
  }

  override discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.below.discard(offsetBytes, lengthBytes, this.#change(offsetBytes, lengthBytes, completion));
  }

  override writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void {
    const change = this.#change(offsetBytes, lengthBytes, completion);
    this.below.writeZeroes(offsetBytes, lengthBytes, mayUnmap, change);
  }

  #change(offsetBytes: number, lengthBytes: number, completion: IoCompletion): Change {
    const change = this.#spare.pop() ?? new Change((ended) => this.#ended(ended));
    change.offsetBytes = offsetBytes;
    change.lengthBytes = lengthBytes;
    change.completion = completion;
    return change;
  }

  #ended(change: Change): void {
    this.#changed?.mark(change.offsetBytes, change.lengthBytes);
    this.#spare.push(change);
  }
}

/** One change that is under way. Used again and again. */
class Change implements IoCompletion {
  offsetBytes = 0;
  lengthBytes = 0;
  completion: IoCompletion | null = null;
  readonly #ended: (change: Change) => void;

  constructor(ended: (change: Change) => void) {
    this.#ended = ended;
  }

  completed(errno: number): void {
    const completion = this.completion;
    this.completion = null;
    this.#ended(this);
    completion?.completed(errno);
  }
}
