import type { Duplex } from "node:stream";
import type { CharacterBackend, CharacterSink } from "../../legacy/character-backend.ts";
import { InputQueue } from "./input-queue.ts";
import { OutputRing } from "./output-ring.ts";

/** Even without history, output waits here until the loop's turn ends and while a reader is slow. */
const MIN_RING_BYTES = 64 * 1024;
const CHUNK_BYTES = 16 * 1024;
const MAX_ATTACHMENTS = 16;

export interface AttachOptions {
  /** Whether what the stream sends reaches the guest; it is read and dropped otherwise. */
  readonly write: boolean;
  /** Whether the reader first gets what the guest wrote before. */
  readonly history: boolean;
}

/** Too many consoles are attached already. */
export class ConsoleBusy extends Error {
  constructor() {
    super(`${MAX_ATTACHMENTS} consoles are attached already; detach one`);
    this.name = "ConsoleBusy";
  }
}

/**
 * The guest's serial console: any number of readers and writers at once, up to a limit.
 * All readers share one ring of output. A reader that falls further behind than the ring is long loses the oldest
 * bytes and is told so; neither the guest nor another reader ever waits for it.
 */
export class GuestConsole implements CharacterBackend {
  readonly #historyBytes: number;
  readonly #ring: OutputRing;
  readonly #input = new InputQueue();
  readonly #attachments = new Set<Attachment>();
  #flush: NodeJS.Immediate | undefined;
  #flushedPosition = 0;
  #droppedBytes = 0;
  #closed = false;

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
  get attached(): number {
    return this.#attachments.size;
  }
  get hasRoom(): boolean {
    return this.#attachments.size < MAX_ATTACHMENTS;
  }

  connect(sink: CharacterSink): void {
    this.#input.connect(sink);
  }

  output(bytes: Uint8Array): void {
    this.#ring.append(bytes);
    if (this.#attachments.size === 0) return;
    if (this.#ring.end - this.#flushedPosition > this.#ring.capacityBytes / 2) this.#pumpAll();
    else this.#flush ??= setImmediate(() => this.#pumpAll());
  }

  /** Joins `stream` to the console until it closes. Throws ConsoleBusy. */
  attach(stream: Duplex, options: AttachOptions): void {
    if (!this.hasRoom) throw new ConsoleBusy();
    const { end, start } = this.#ring;
    const position = options.history ? Math.max(start, end - this.#historyBytes) : end;
    const attachment = new Attachment(stream, this.#ring, position, (bytes) => {
      this.#droppedBytes += bytes;
    });
    this.#attachments.add(attachment);
    stream.on("error", () => stream.destroy());
    // A reader that closed its half may be gone altogether, which a silent guest would never reveal.
    stream.once("end", () => stream.destroy());
    stream.once("close", () => {
      this.#attachments.delete(attachment);
      this.#input.remove(stream);
    });
    if (options.write) stream.on("data", (bytes: Uint8Array) => this.#input.offer(stream, bytes));
    else stream.resume();
    if (this.#closed) attachment.end();
    else attachment.pump();
  }

  /** The machine has ended: readers get what is left, as far as they take it, and then the end of the stream. */
  close(): void {
    this.#closed = true;
    this.#pumpAll();
    for (const attachment of this.#attachments) attachment.end();
  }

  #pumpAll(): void {
    if (this.#flush !== undefined) clearImmediate(this.#flush);
    this.#flush = undefined;
    this.#flushedPosition = this.#ring.end;
    for (const attachment of this.#attachments) attachment.pump();
  }
}

/** One reader's place in the ring. Its stream buffers at most one chunk beyond the stream's own high-water mark. */
class Attachment {
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
