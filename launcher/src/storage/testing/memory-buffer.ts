import { Mapping } from "../../sys/mapping.ts";
import { IoVector } from "../io-vector.ts";
import type { IoCompletion, Storage } from "../storage.ts";

/** Host memory for tests of storage: bytes to write from and read into. */
export class MemoryBuffer implements Disposable {
  readonly bytes: Uint8Array;
  readonly #mapping: Mapping;

  constructor(sizeBytes: number) {
    this.#mapping = Mapping.anonymous(Math.ceil(sizeBytes / 4096) * 4096);
    this.bytes = new Uint8Array(this.#mapping.buffer);
  }

  get hostAddress(): number {
    return this.#mapping.hostAddress;
  }

  /** `lengthBytes` from `offset` on, cut into pieces of `pieceBytes` that do not follow each other in the vector. */
  vector(offset: number, lengthBytes: number): IoVector {
    const vector = new IoVector();
    vector.append(this.#mapping.hostAddress + offset, lengthBytes);
    return vector;
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}

/** Runs one operation; resolves with its errno. */
export function finish(start: (completion: IoCompletion) => void): Promise<number> {
  return new Promise((resolve) => start({ completed: resolve }));
}

/** Reads a part of a disk; throws where that fails. */
export async function readDisk(disk: Storage, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
  using buffer = new MemoryBuffer(lengthBytes);
  using vector = buffer.vector(0, lengthBytes);
  const errno = await finish((completion) => disk.read(offsetBytes, vector, completion));
  if (errno !== 0) throw new Error(`read failed with errno ${errno}`);
  return buffer.bytes.slice(0, lengthBytes);
}

/** Writes to a disk; answers the errno. */
export async function writeDisk(disk: Storage, offsetBytes: number, bytes: Uint8Array): Promise<number> {
  using buffer = new MemoryBuffer(bytes.length);
  buffer.bytes.set(bytes);
  using vector = buffer.vector(0, bytes.length);
  return await finish((completion) => disk.write(offsetBytes, vector, completion));
}
