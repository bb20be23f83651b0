import { read } from "node:fs";
import { promisify } from "node:util";
import { release } from "./byte-stream.ts";
import { ImportError } from "./import-error.ts";
import { BUFFER_BYTES } from "./sparse-writer.ts";

const readAt = promisify(read);

/** Bytes of a file, for as long as it is not disposed of. */
export interface View extends Disposable {
  readonly bytes: Uint8Array;
}

export interface FileRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Its last sector may be the first of another range, which is still to be looked at. */
  readonly isEndShared?: boolean;
}

/** A file that is read at any place, best once at each. */
export interface RandomSource {
  readonly sizeBytes: number;
  /** Resolves once the range can be looked at. Throws ImportError where it never can. */
  view(range: FileRange): Promise<View>;
}

/** Fills `target` with what the file has at `offsetBytes`. Throws ImportError where that is not all of it. */
export async function readFile(fd: number, target: Uint8Array, offsetBytes: number): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await readAt(fd, target, done, target.length - done, offsetBytes + done);
    if (bytesRead === 0)
      throw new ImportError("SourceInvalid", `the file ends at ${offsetBytes + done}, within a cluster`);
    done += bytesRead;
  }
}

/** Buffers that are used again. */
export class BufferPool {
  readonly #spare: Buffer[] = [];

  /** With whatever the one before left in it. */
  take(lengthBytes: number): View {
    if (lengthBytes > BUFFER_BYTES) {
      const bytes = Buffer.allocUnsafeSlow(lengthBytes);
      return { bytes, [Symbol.dispose]: () => release(bytes) };
    }
    const buffer = this.#spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
    return { bytes: buffer.subarray(0, lengthBytes), [Symbol.dispose]: () => this.#spare.push(buffer) };
  }
}

/** A file that is there as a whole. */
export class WholeFile implements RandomSource {
  readonly sizeBytes: number;
  readonly #fd: number;
  readonly #buffers = new BufferPool();

  constructor(fd: number, sizeBytes: number) {
    this.#fd = fd;
    this.sizeBytes = sizeBytes;
  }

  async view({ offsetBytes, lengthBytes }: FileRange): Promise<View> {
    const view = this.#buffers.take(lengthBytes);
    await readFile(this.#fd, view.bytes, offsetBytes);
    return view;
  }
}
