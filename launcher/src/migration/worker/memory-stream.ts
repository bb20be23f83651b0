import { timingSafeEqual } from "node:crypto";
import { CodecError } from "../../codec/codec-error.ts";
import { PAGE_SIZE } from "../../memory/dirty-bitmap.ts";
import { MEMORY_FRAME, MEMORY_HEADER_BYTES, PAGES_LIMIT_BYTES, TOKEN_BYTES } from "../protocol.ts";

export interface MemoryTarget {
  readonly sizeBytes: number;
  write(offsetBytes: number, bytes: Uint8Array): void;
  zero(offsetBytes: number, lengthBytes: number): void;
  passEnded(pass: number): void;
}

/** One memory connection as the target reads it: bytes that may be anything, straight into guest RAM once it is let in. */
export class MemoryStream {
  readonly #target: MemoryTarget;
  readonly #token: Uint8Array;
  readonly #header = Buffer.alloc(MEMORY_HEADER_BYTES);
  #headerBytes = 0;
  /** Of a pages frame: where its next byte goes, and how many are left. */
  #offsetBytes = 0;
  #leftBytes = 0;
  /** Null once it was shown the right one. */
  #shown: Buffer | null = null;
  #isLetIn = false;

  constructor(target: MemoryTarget, token: Uint8Array) {
    this.#target = target;
    this.#token = token;
  }

  get isLetIn(): boolean {
    return this.#isLetIn;
  }

  /** Throws CodecError for what a source does not send; the connection is of no use after. */
  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#leftBytes > 0) {
        const part = chunk.subarray(at, at + this.#leftBytes);
        this.#take(part);
        at += part.length;
      } else {
        const part = chunk.subarray(at, at + MEMORY_HEADER_BYTES - this.#headerBytes);
        this.#header.set(part, this.#headerBytes);
        this.#headerBytes += part.length;
        at += part.length;
        if (this.#headerBytes === MEMORY_HEADER_BYTES) this.#begin();
      }
    }
  }

  #take(part: Uint8Array): void {
    if (this.#shown) {
      this.#shown.set(part, this.#shown.length - this.#leftBytes);
      this.#leftBytes -= part.length;
      if (this.#leftBytes === 0) this.#letIn(this.#shown);
      return;
    }
    this.#target.write(this.#offsetBytes, part);
    this.#offsetBytes += part.length;
    this.#leftBytes -= part.length;
  }

  #letIn(shown: Buffer): void {
    this.#shown = null;
    if (!timingSafeEqual(shown, this.#token)) throw new CodecError("a memory connection with another token");
    this.#isLetIn = true;
  }

  #begin(): void {
    this.#headerBytes = 0;
    const type = this.#header.readUInt32LE(0);
    const lengthBytes = this.#header.readUInt32LE(4);
    const value = this.#header.readUInt32LE(8) + this.#header.readUInt32LE(12) * 2 ** 32;
    if (!this.#isLetIn) {
      if (type !== MEMORY_FRAME.hello || lengthBytes !== TOKEN_BYTES)
        throw new CodecError("a memory connection without a token");
      this.#shown = Buffer.alloc(TOKEN_BYTES);
      this.#leftBytes = TOKEN_BYTES;
      return;
    }
    switch (type) {
      case MEMORY_FRAME.pages:
        this.#check(value, lengthBytes, PAGES_LIMIT_BYTES);
        this.#offsetBytes = value;
        this.#leftBytes = lengthBytes;
        return;
      case MEMORY_FRAME.zeroes:
        this.#check(value, lengthBytes, this.#target.sizeBytes);
        this.#target.zero(value, lengthBytes);
        return;
      case MEMORY_FRAME.passEnd:
        if (lengthBytes !== 0 || value >= 2 ** 32)
          throw new CodecError(`an end of pass ${value} of ${lengthBytes} bytes`);
        this.#target.passEnded(value);
        return;
      default:
        throw new CodecError(`a memory frame of type ${type}`);
    }
  }

  #check(offsetBytes: number, lengthBytes: number, limitBytes: number): void {
    const isWhole = offsetBytes % PAGE_SIZE === 0 && lengthBytes % PAGE_SIZE === 0;
    const isInside =
      lengthBytes > 0 && lengthBytes <= limitBytes && offsetBytes <= this.#target.sizeBytes - lengthBytes;
    if (!isWhole || !isInside) throw new CodecError(`memory ${offsetBytes}+${lengthBytes} is none of the machine's`);
  }
}
