import { Mapping } from "../../sys/mapping.ts";
import type { FileIo } from "../file-io.ts";
import { IoVector } from "../io-vector.ts";
import type { IoCompletion } from "../storage.ts";
import { SharedLoads } from "./shared-loads.ts";

const SLICE_BYTES = 4096;
/** 1 MiB of tables: those of 8 GiB in clusters of 64 KiB. Memory is taken as it is used. */
const SLICES = 256;
/** Loads at a time; each has a slice of its own that nobody reads meanwhile. */
const LOADS = 4;

/** Pieces of L2 tables, in slices of a page: a table may be as large as 2 MiB, of which little is needed at a time. */
export class TableCache implements Disposable {
  readonly #file: FileIo;
  readonly #fileBytes: number;
  readonly #memory = Mapping.anonymous(SLICES * SLICE_BYTES);
  /** All slices. */
  readonly view = new DataView(this.#memory.buffer);
  /** Slot by the slice's number in the file. The order is that of last use: the first is the oldest. */
  readonly #slots = new Map<number, number>();
  readonly #free = Array.from({ length: SLICES }, (_, slot) => slot);
  readonly #loads = new SharedLoads(LOADS, (slice, lengthBytes, done) => this.#read(slice, lengthBytes, done));
  readonly #spareVectors: IoVector[] = [];
  #lastSlice = -1;
  #lastSlot = 0;

  constructor(file: FileIo, fileBytes: number) {
    this.#file = file;
    this.#fileBytes = fileBytes;
  }

  /** Where in `view` the byte at `offsetBytes` of the file is; -1 when it has to be loaded first. */
  find(offsetBytes: number): number {
    const slice = Math.floor(offsetBytes / SLICE_BYTES);
    if (slice !== this.#lastSlice) {
      const slot = this.#slots.get(slice);
      if (slot === undefined) return -1;
      this.#slots.delete(slice);
      this.#slots.set(slice, slot);
      this.#lastSlice = slice;
      this.#lastSlot = slot;
    }
    return this.#lastSlot * SLICE_BYTES + (offsetBytes % SLICE_BYTES);
  }

  /** Loads what `find` did not find; `offsetBytes` is inside the file. */
  load(offsetBytes: number, completion: IoCompletion): void {
    const slice = Math.floor(offsetBytes / SLICE_BYTES);
    this.#loads.load(slice, Math.min(SLICE_BYTES, this.#fileBytes - slice * SLICE_BYTES), completion);
  }

  [Symbol.dispose](): void {
    for (const vector of this.#spareVectors) vector[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }

  #read(slice: number, lengthBytes: number, done: IoCompletion): void {
    const slot = this.#free.pop() ?? this.#evict();
    const vector = this.#spareVectors.pop() ?? new IoVector(1);
    vector.clear();
    vector.append(this.#memory.hostAddress + slot * SLICE_BYTES, lengthBytes);
    this.#file.read(slice * SLICE_BYTES, vector, {
      completed: (errno) => {
        this.#spareVectors.push(vector);
        if (errno === 0) this.#slots.set(slice, slot);
        else this.#free.push(slot);
        done.completed(errno);
      },
    });
  }

  #evict(): number {
    for (const [slice, slot] of this.#slots) {
      this.#slots.delete(slice);
      if (slice === this.#lastSlice) this.#lastSlice = -1;
      return slot;
    }
    throw new RangeError("more loads than slices");
  }
}
