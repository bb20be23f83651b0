import { Mapping } from "../sys/mapping.ts";
import type { FileIo } from "./file-io.ts";
import { IoVector } from "./io-vector.ts";
import type { IoCompletion } from "./storage.ts";

/** A multiple of every logical block size. */
const BOUNCE_BYTES = 256 * 1024;

interface Job {
  readonly direction: "read" | "write";
  offsetBytes: number;
  readonly vector: IoVector;
  readonly completion: IoCompletion;
}

/**
 * Direct I/O for memory of any alignment, by a copy in memory that has the right one: firmware and old drivers ask for
 * it, which is rare enough that one request after the other is good enough, in pieces of 256 KiB.
 */
export class Bounce implements IoCompletion, Disposable {
  readonly #file: Pick<FileIo, "read" | "write">;
  readonly #jobs: Job[] = [];
  #buffer: Mapping | null = null;
  /** Of the piece under way: the copy, and what it is a copy of. */
  readonly #copy = new IoVector(1);
  readonly #original = new IoVector();

  constructor(file: Pick<FileIo, "read" | "write">) {
    this.#file = file;
  }

  /** As of FileIo; offset and length are multiples of the logical block size. */
  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#add({ direction: "read", offsetBytes, vector, completion });
  }

  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#add({ direction: "write", offsetBytes, vector, completion });
  }

  /** A piece has been read or written. */
  completed(errno: number): void {
    const job = this.#jobs[0];
    if (!job) return;
    const { vector } = job;
    const lengthBytes = this.#original.lengthBytes;
    if (errno === 0) {
      if (job.direction === "read") this.#original.fill(this.#bytes(lengthBytes));
      vector.dropFront(lengthBytes);
      job.offsetBytes += lengthBytes;
    }
    if (errno === 0 && vector.lengthBytes > 0) {
      this.#piece(job);
      return;
    }
    this.#jobs.shift();
    job.completion.completed(errno);
    this.#next();
  }

  /** Nothing is under way. */
  [Symbol.dispose](): void {
    this.#copy[Symbol.dispose]();
    this.#original[Symbol.dispose]();
    this.#buffer?.[Symbol.dispose]();
  }

  #add(job: Job): void {
    this.#jobs.push(job);
    if (this.#jobs.length === 1) this.#next();
  }

  #next(): void {
    const job = this.#jobs[0];
    if (job) this.#piece(job);
  }

  #piece(job: Job): void {
    this.#buffer ??= Mapping.anonymous(BOUNCE_BYTES);
    const lengthBytes = Math.min(BOUNCE_BYTES, job.vector.lengthBytes);
    this.#original.clear();
    this.#original.appendPart(job.vector, 0, lengthBytes);
    if (job.direction === "write") this.#original.copyTo(this.#bytes(lengthBytes));
    this.#copy.clear();
    this.#copy.append(this.#buffer.hostAddress, lengthBytes);
    this.#file[job.direction](job.offsetBytes, this.#copy, this);
  }

  #bytes(lengthBytes: number): Uint8Array {
    return new Uint8Array(this.#buffer?.buffer ?? new ArrayBuffer(0), 0, lengthBytes);
  }
}
