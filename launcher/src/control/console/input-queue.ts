import type { CharacterSink } from "../../legacy/character-backend.ts";

/** One who types: paused while the guest does not take what was typed. */
export interface InputSource {
  pause(): void;
  resume(): void;
}

/**
 * Carries input of several sources to one device with back-pressure: each source has at most one chunk waiting,
 * and is paused meanwhile. Waiting sources take turns.
 */
export class InputQueue {
  readonly #waiting = new Map<InputSource, Uint8Array>();
  #sink: CharacterSink | undefined;
  #takenBytes = 0;

  /** Bytes that the device has taken. */
  get takenBytes(): number {
    return this.#takenBytes;
  }

  connect(sink: CharacterSink): void {
    this.#sink = sink;
    sink.onDrain(() => this.#drain());
    this.#drain();
  }

  /** `bytes` must stay as they are until the source is resumed. */
  offer(source: InputSource, bytes: Uint8Array): void {
    const earlier = this.#waiting.get(source);
    if (earlier !== undefined) {
      // A stream may deliver once more after pause(); order within a source is kept.
      this.#waiting.set(source, Buffer.concat([earlier, bytes]));
      return;
    }
    // Behind those who wait already, or a fast typist would starve them.
    const rest = this.#waiting.size === 0 ? this.#give(bytes) : bytes;
    if (rest.length === 0) return;
    this.#waiting.set(source, rest);
    source.pause();
  }

  /** Forgets a source that has gone, and what of it is still waiting. */
  remove(source: InputSource): void {
    this.#waiting.delete(source);
  }

  #drain(): void {
    for (const [source, bytes] of [...this.#waiting]) {
      const rest = this.#give(bytes);
      if (rest.length > 0) {
        if (rest.length < bytes.length) {
          // To the end of the line: the next turn is another's.
          this.#waiting.delete(source);
          this.#waiting.set(source, rest);
        }
        return;
      }
      this.#waiting.delete(source);
      source.resume();
    }
  }

  #give(bytes: Uint8Array): Uint8Array {
    if (this.#sink === undefined) return bytes;
    const taken = this.#sink.input(bytes);
    this.#takenBytes += taken;
    return bytes.subarray(taken);
  }
}
