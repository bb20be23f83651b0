import { IoVector } from "./io-vector.ts";
import type { OverlayState } from "./overlay-state.ts";
import type { IoCompletion } from "./storage.ts";

/** A read of parts that lie in base and overlay by turns, one part after the other. Used again and again. */
export class OverlayRead implements IoCompletion {
  readonly #state: OverlayState;
  readonly #recycle: (read: OverlayRead) => void;
  readonly #part = new IoVector();
  #vector: IoVector | null = null;
  #completion: IoCompletion | null = null;
  #offsetBytes = 0;
  /** Of the part that is being read. */
  #partBytes = 0;
  /** A part that ends at once is followed by the next in a loop, not in a deeper call. */
  #isLooping = false;
  #hasEnded = false;

  constructor(state: OverlayState, recycle: (read: OverlayRead) => void) {
    this.#state = state;
    this.#recycle = recycle;
  }

  start(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#offsetBytes = offsetBytes;
    this.#vector = vector;
    this.#completion = completion;
    this.#partBytes = 0;
    this.#readParts();
  }

  completed(errno: number): void {
    if (errno !== 0) {
      this.#finish(errno);
      return;
    }
    this.#offsetBytes += this.#partBytes;
    this.#vector?.dropFront(this.#partBytes);
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
      const end = this.#state.endOfRun(this.#offsetBytes, this.#offsetBytes + vector.lengthBytes);
      this.#partBytes = end - this.#offsetBytes;
      this.#part.clear();
      this.#part.appendPart(vector, 0, this.#partBytes);
      this.#hasEnded = false;
      this.#state.sourceAt(this.#offsetBytes).read(this.#offsetBytes, this.#part, this);
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
