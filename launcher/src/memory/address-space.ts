/**
 * What answers at a range of guest addresses (MMIO or ports). `data` is a view of the exit's own buffer, 1, 2, 4 or 8
 * bytes long, little endian; `offset` counts from the start of the range. A handler never throws for what a guest does:
 * reads it does not know fill `data` with 0xff, writes it does not know are dropped.
 */
export interface RangeHandler {
  read(offset: number, data: Uint8Array): void;
  write(offset: number, data: Uint8Array): void;
}

/** Ranges of one address space (ports or MMIO), each with its handler; ranges never overlap. */
export class AddressSpace {
  readonly #name: string;
  /** Invariant: sorted by `start`, disjoint. */
  readonly #ranges: { start: number; end: number; handler: RangeHandler }[] = [];

  constructor(name: string) {
    this.#name = name;
  }

  /** Adds `[start, start + sizeBytes)`; disposing takes it out. Throws RangeError where a range is in the way. */
  add(start: number, sizeBytes: number, handler: RangeHandler): Disposable {
    const end = start + sizeBytes;
    if (sizeBytes <= 0) throw new RangeError(`${this.#name}: empty range at 0x${start.toString(16)}`);
    const at = this.#firstEndingAfter(start);
    const next = this.#ranges[at];
    if (next && next.start < end)
      throw new RangeError(`${this.#name}: 0x${start.toString(16)}+0x${sizeBytes.toString(16)} is taken`);
    const range = { start, end, handler };
    this.#ranges.splice(at, 0, range);
    return {
      [Symbol.dispose]: () => {
        const i = this.#ranges.indexOf(range);
        if (i >= 0) this.#ranges.splice(i, 1);
      },
    };
  }

  /** All ones where nobody answers, as on a real bus. */
  read(address: number, data: Uint8Array): void {
    const range = this.#find(address, data.length);
    if (range) range.handler.read(address - range.start, data);
    else data.fill(0xff);
  }

  write(address: number, data: Uint8Array): void {
    const range = this.#find(address, data.length);
    range?.handler.write(address - range.start, data);
  }

  /** The range that holds the whole access: one that straddles a border is nobody's. */
  #find(address: number, lengthBytes: number) {
    const range = this.#ranges[this.#firstEndingAfter(address)];
    return range && range.start <= address && address + lengthBytes <= range.end ? range : undefined;
  }

  #firstEndingAfter(address: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const range = this.#ranges[middle];
      if (range && range.end > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
