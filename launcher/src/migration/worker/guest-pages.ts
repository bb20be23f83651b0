import { PAGE_SIZE } from "../../memory/dirty-bitmap.ts";
import { seekData, seekHole } from "../../sys/file-io.ts";
import { Mapping } from "../../sys/mapping.ts";

const WORDS_OF_PAGE = PAGE_SIZE / 8;

/** Guest RAM as one file, seen by a thread of its own. Offsets and lengths are bytes, in whole pages. */
export class GuestPages implements Disposable {
  readonly fd: number;
  readonly sizeBytes: number;
  readonly bytes: Buffer;
  readonly #mapping: Mapping;
  readonly #words: BigUint64Array;

  constructor(fd: number, sizeBytes: number) {
    this.fd = fd;
    this.sizeBytes = sizeBytes;
    this.#mapping = Mapping.shared(fd, sizeBytes);
    this.bytes = Buffer.from(this.#mapping.buffer);
    this.#words = new BigUint64Array(this.#mapping.buffer);
  }

  isZero(page: number): boolean {
    const words = this.#words;
    const end = (page + 1) * WORDS_OF_PAGE;
    for (let i = page * WORDS_OF_PAGE; i < end; i++) if (words[i] !== 0n) return false;
    return true;
  }

  /**
   * Where in `[start, end)` memory was ever touched: calls `data` for each run of that, `hole` for what lies between.
   * Reading a hole would take memory for it.
   */
  runs(start: number, end: number, data: (from: number, to: number) => void, hole: (from: number, to: number) => void) {
    for (let at = start; at < end; ) {
      const from = Math.min(end, seekData(this.fd, at) ?? end);
      if (from > at) hole(at, from);
      if (from === end) return;
      const to = Math.min(end, seekHole(this.fd, from) ?? end);
      data(from, to);
      at = to;
    }
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}
