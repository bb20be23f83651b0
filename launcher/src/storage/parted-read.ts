import { IoVector } from "./io-vector.ts";
import type { IoCompletion } from "./storage.ts";

/** Who knows where the parts of a disk are. */
export interface PartReader {
  /**
   * Starts to read what is at `read.offsetBytes`, as much as comes from one place, into `read.take` of that much, with
   * `read` as the completion. What is missing for that may be brought first, without taking anything: it is asked again.
   */
  readPart(read: PartedRead): void;
}

/** A read of parts that lie in different places, one part after the other. Used again and again. */
export class PartedRead implements IoCompletion {
  readonly #reader: PartReader;
  readonly #recycle: (read: PartedRead) => void;
  readonly #part = new IoVector();
  #vector: IoVector | null = null;
  #completion: IoCompletion | null = null;
  #offsetBytes = 0;
  /** Of the part that is being read. */
  #partBytes = 0;
  /** A part that ends at once is followed by the next in a loop, not in a deeper call. */
  #isLooping = false;
  #hasEnded = false;

  constructor(reader: PartReader, recycle: (read: PartedRead) => void) {
    this.#reader = reader;
    this.#recycle = recycle;
  }

  /** Where the next part begins. */
  get offsetBytes(): number {
    return this.#offsetBytes;
  }

  /** Where the whole read ends. */
  get endBytes(): number {
    return this.#offsetBytes + (this.#vector?.lengthBytes ?? 0);
  }

  start(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#offsetBytes = offsetBytes;
    this.#vector = vector;
    this.#completion = completion;
    this.#partBytes = 0;
    this.#readParts();
  }

  /** The memory of the next part, `lengthBytes` of it, at most up to `endBytes`. */
  take(lengthBytes: number): IoVector {
    this.#partBytes = lengthBytes;
    this.#part.clear();
    if (this.#vector) this.#part.appendPart(this.#vector, 0, lengthBytes);
    return this.#part;
  }

  completed(errno: number): void {
    if (errno !== 0) {
      this.#finish(errno);
      return;
    }
    this.#offsetBytes += this.#partBytes;
    this.#vector?.dropFront(this.#partBytes);
    this.#partBytes = 0;
    this.#hasEnded = true;
    if (!this.#isLooping) this.#readParts();
  }

  #readParts(): void {
    this.#isLooping = true;
    do {
      const vector = this.#vector;
      if (!vector) break;
      if (vector.lengthBytes === 0) {
        this.#finish(0);
        break;
      }
      this.#hasEnded = false;
      this.#reader.readPart(this);
    } while (this.#hasEnded);
    this.#isLooping = false;
  }

  #finish(errno: number): void {
    const completion = this.#completion;
    this.#vector = null;
    this.#completion = null;
    this.#recycle(this);
    completion?.completed(errno);
  }
}
