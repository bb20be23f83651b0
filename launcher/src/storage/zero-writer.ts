import { Mapping } from "../sys/mapping.ts";
import type { FileIo } from "./file-io.ts";
import { IoVector } from "./io-vector.ts";
import type { IoCompletion } from "./storage.ts";

const ZERO_BYTES = 64 * 1024;
const RANGES = 64;

/** Writes zeroes where the file system has no faster way. For one range; it frees its memory when that is done. */
export class ZeroWriter implements IoCompletion {
  readonly #file: FileIo;
  readonly #completion: IoCompletion;
  readonly #zeroes = Mapping.anonymous(ZERO_BYTES);
  readonly #vector = new IoVector(RANGES);
  #offsetBytes = 0;
  #leftBytes = 0;

  constructor(file: FileIo, completion: IoCompletion) {
    this.#file = file;
    this.#completion = completion;
  }

  write(offsetBytes: number, lengthBytes: number): void {
    this.#offsetBytes = offsetBytes;
    this.#leftBytes = lengthBytes;
    this.completed(0);
  }

  completed(errno: number): void {
    if (errno !== 0 || this.#leftBytes === 0) {
      this.#vector[Symbol.dispose]();
      this.#zeroes[Symbol.dispose]();
      this.#completion.completed(errno);
      return;
    }
    this.#vector.clear();
    for (let i = 0; i < RANGES && this.#vector.lengthBytes < this.#leftBytes; i++)
      this.#vector.append(this.#zeroes.hostAddress, Math.min(ZERO_BYTES, this.#leftBytes - this.#vector.lengthBytes));
    const offsetBytes = this.#offsetBytes;
    this.#offsetBytes += this.#vector.lengthBytes;
    this.#leftBytes -= this.#vector.lengthBytes;
    this.#file.write(offsetBytes, this.#vector, this);
  }
}
