/** Bytes of a guest page as KVM logs them (4 KiB, whatever backs them). */
export const PAGE_SIZE = 4096;

/**
 * Pages that the VMM itself wrote, one bit a page of the backing: KVM logs only what vCPUs write.
 * Off (and free of cost) until a migration turns it on.
 */
export class DirtyBitmap {
  readonly #pages: number;
  #words: Uint32Array | null = null;
  readonly #watchers = new Set<(isOn: boolean) => void>();

  constructor(sizeBytes: number) {
    this.#pages = Math.ceil(sizeBytes / PAGE_SIZE);
  }

  /** Starts with no page marked. */
  enable(): void {
    this.#words = new Uint32Array(Math.ceil(this.#pages / 32));
    for (const watcher of this.#watchers) watcher(true);
  }

  disable(): void {
    this.#words = null;
    for (const watcher of this.#watchers) watcher(false);
  }

  /** `watcher` is told before `enable` and `disable` return: for what has the kernel write guest memory unmarked. */
  watch(watcher: (isOn: boolean) => void): Disposable {
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  /** Marks the pages of `[offsetBytes, offsetBytes + lengthBytes)`; the caller has checked the range. */
  mark(offsetBytes: number, lengthBytes: number): void {
    const words = this.#words;
    if (words === null || lengthBytes === 0) return;
    const last = Math.floor((offsetBytes + lengthBytes - 1) / PAGE_SIZE);
    for (let page = Math.floor(offsetBytes / PAGE_SIZE); page <= last; page++)
      words[page >>> 5] = (words[page >>> 5] ?? 0) | (1 << (page & 31));
  }

  /** The marks so far, bit n of word n/32 for page n; they are cleared. Empty while disabled. */
  take(): Uint32Array {
    const words = this.#words;
    if (words === null) return new Uint32Array(0);
    this.#words = new Uint32Array(words.length);
    return words;
  }
}
