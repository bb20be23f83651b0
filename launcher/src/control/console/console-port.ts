import type { Duplex } from "node:stream";
import type { CharacterBackend, CharacterSink } from "../../legacy/character-backend.ts";
import { InputQueue } from "./input-queue.ts";
import { OutputRing } from "./output-ring.ts";

/** Even without history, output waits here until the loop's turn ends and while a reader is slow. */
const MIN_RING_BYTES = 64 * 1024;
const CHUNK_BYTES = 16 * 1024;

export interface JoinOptions {
  /** Whether what the stream sends reaches the guest; it is read and dropped otherwise. */
  readonly write: boolean;
  /** Whether the reader first gets what the guest wrote before. */
  readonly history: boolean;
}

/** One reader, until it is disposed: once its stream has closed. */
export interface Attachment extends Disposable {
  /** Gives the reader what is left, as far as it takes it, and then the end of the stream. */
  end(): void;
}

/**
 * One of the guest's console devices: any number of readers and writers at once. All readers share one ring of output.
 * A reader that falls further behind than the ring is long loses the oldest bytes and is told so; neither the guest nor
 * another reader ever waits for it.
 */
export class ConsolePort implements CharacterBackend {
  readonly #historyBytes: number;
  readonly #ring: OutputRing;
  readonly #input = new InputQueue();
  readonly #readers = new Set<Reader>();
  #flush: NodeJS.Immediate | undefined;
  #flushedPosition = 0;
  #droppedBytes = 0;

  constructor(historyBytes: number) {
    this.#historyBytes = historyBytes;
    this.#ring = new OutputRing(Math.max(historyBytes, MIN_RING_BYTES));
  }

  get outputBytes(): number {
    return this.#ring.end;
  }
  get inputBytes(): number {
    return this.#input.takenBytes;
  }
  /** Bytes that slow readers did not get, summed over readers. */
  get droppedBytes(): number {
    return this.#droppedBytes;
  }

  /** What the guest printed last, as far as it is kept. */
  history(): Uint8Array {
    const { start, end } = this.#ring;
    const from = Math.max(start, end - this.#historyBytes);
    return this.#ring.read(from, end - from);
  }

  /** The guest printed this before, in another launcher. */
  restoreHistory(bytes: Uint8Array): void {
    this.#ring.append(bytes);
  }

  connect(sink: CharacterSink): void {
    this.#input.connect(sink);
  }

  output(bytes: Uint8Array): void {
    this.#ring.append(bytes);
    if (this.#readers.size === 0) return;
    if (this.#ring.end - this.#flushedPosition > this.#ring.capacityBytes / 2) this.pump();
    else this.#flush ??= setImmediate(() => this.pump());
  }

  attach(stream: Duplex, { write, history }: JoinOptions): Attachment {
    const { end, start } = this.#ring;
    const position = history ? Math.max(start, end - this.#historyBytes) : end;
    const reader = new Reader(stream, this.#ring, position, (bytes) => {
      this.#droppedBytes += bytes;
    });
    this.#readers.add(reader);
    if (write) stream.on("data", (bytes: Uint8Array) => this.#input.offer(stream, bytes));
    else stream.resume();
    reader.pump();
    return {
      end: () => reader.end(),
      [Symbol.dispose]: () => {
        this.#readers.delete(reader);
        this.#input.remove(stream);
      },
    };
  }

  /** Gives all readers what they have not had yet, as far as they take it. */
  pump(): void {
    if (this.#flush !== undefined) clearImmediate(this.#flush);
    this.#flush = undefined;
    this.#flushedPosition = this.#ring.end;
    for (const reader of this.#readers) reader.pump();
  }
}

/** One reader's place in the ring. Its stream buffers at most one chunk beyond the stream's own high-water mark. */
class Reader {
  readonly #stream: Duplex;
  readonly #ring: OutputRing;
  readonly #onDropped: (bytes: number) => void;
  #position: number;
  #waitsForDrain = false;

  constructor(stream: Duplex, ring: OutputRing, position: number, onDropped: (bytes: number) => void) {
    this.#stream = stream;
    this.#ring = ring;
    this.#position = position;
    this.#onDropped = onDropped;
    stream.on("drain", () => {
      this.#waitsForDrain = false;
      this.pump();
    });
  }

  /** Sends what the reader has not had yet, until its stream is full. */
  pump(): void {
    while (!this.#waitsForDrain && this.#position < this.#ring.end && this.#stream.writable) {
      this.#skipWhatIsGone();
      const chunk = this.#ring.read(this.#position, CHUNK_BYTES);
      this.#position += chunk.length;
      this.#waitsForDrain = !this.#stream.write(chunk);
    }
  }

  end(): void {
    this.#waitsForDrain = false;
    this.pump();
    this.#stream.end();
  }

  #skipWhatIsGone(): void {
    const goneBytes = this.#ring.start - this.#position;
    if (goneBytes <= 0) return;
    this.#position = this.#ring.start;
    this.#onDropped(goneBytes);
    this.#stream.write(`\r\n[console: ${goneBytes} bytes dropped, this reader is too slow]\r\n`);
  }
}
