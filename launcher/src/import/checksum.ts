import { createHash, type Hash } from "node:crypto";
import type { Chunks } from "./byte-stream.ts";
import { ImportError } from "./import-error.ts";

/** The checksum of what goes by. */
export class Checksum {
  readonly #expected: string;
  readonly #algorithm: string;
  readonly #hash: Hash;

  constructor({ algorithm, digest }: { readonly algorithm: "sha256" | "sha512"; readonly digest: string }) {
    this.#algorithm = algorithm;
    this.#expected = digest.toLowerCase();
    this.#hash = createHash(algorithm);
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  async *of(chunks: Chunks): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.update(chunk);
      yield chunk;
    }
  }

  /** Once all has gone by. Throws ImportError with both. */
  verify(): void {
    const got = this.#hash.digest("hex");
    if (got === this.#expected) return;
    throw new ImportError(
      "ChecksumMismatch",
      `the file has the ${this.#algorithm} checksum ${got}, and ${this.#expected} was expected; correct the checksum, or the file`,
    );
  }
}
