import { timingSafeEqual } from "node:crypto";
import { CodecError } from "../../codec/codec-error.ts";
import { PAGE_SIZE } from "../../memory/dirty-bitmap.ts";
import { MEMORY_FRAME, MEMORY_HEADER_BYTES, PAGES_LIMIT_BYTES, TOKEN_BYTES } from "../protocol.ts";
import { DiskFrames, type DiskTarget } from "./disk-frames.ts";

export interface MemoryTarget {
  readonly sizeBytes: number;
  /** In the order that the source was told them. */
  readonly disks: readonly DiskTarget[];
  write(offsetBytes: number, bytes: Uint8Array): void;
  zero(offsetBytes: number, lengthBytes: number): void;
  passEnded(pass: number): void;
}

/** Who takes the payload of a frame, as it comes. */
export interface Payload {
  readonly leftBytes: number;
  take(part: Uint8Array): void;
}

/** One memory connection as the target reads it: bytes that may be anything, straight to where they belong once it is let in. */
export class MemoryStream {
  readonly #target: MemoryTarget;
  readonly #token: Uint8Array;
  readonly #header = Buffer.alloc(MEMORY_HEADER_BYTES);
  readonly #disks: DiskFrames;
  #headerBytes = 0;
  #payload: Payload | null = null;
  #isLetIn = false;
  #nextPass = 0;

  constructor(target: MemoryTarget, token: Uint8Array) {
    this.#target = target;
    this.#token = token;
    this.#disks = new DiskFrames(target.disks);
  }

  get isLetIn(): boolean {
    return this.#isLetIn;
  }

  /** Throws CodecError for what a source does not send; the connection is of no use after. */
  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#payload && this.#payload.leftBytes > 0) {
        const part = chunk.subarray(at, at + this.#payload.leftBytes);
        this.#payload.take(part);
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

  #begin(): void {
    this.#headerBytes = 0;
    const type = this.#header.readUInt32LE(0);
    const lengthBytes = this.#header.readUInt32LE(4);
    const value = this.#header.readUInt32LE(8) + this.#header.readUInt32LE(12) * 2 ** 32;
    this.#payload = this.#isLetIn ? this.#frame(type, lengthBytes, value) : this.#hello(type, lengthBytes);
  }

  #hello(type: number, lengthBytes: number): Payload {
    if (type !== MEMORY_FRAME.hello || lengthBytes !== TOKEN_BYTES)
      throw new CodecError("a memory connection without a token");
    const letIn = (shown: Uint8Array) => {
      if (!timingSafeEqual(shown, this.#token)) throw new CodecError("a memory connection with another token");
      this.#isLetIn = true;
    };
    return new Whole(new Uint8Array(TOKEN_BYTES), letIn);
  }

  /** Null where the header is all. */
  #frame(type: number, lengthBytes: number, value: number): Payload | null {
    const target = this.#target;
    switch (type) {
      case MEMORY_FRAME.pages:
        this.#check(value, lengthBytes, PAGES_LIMIT_BYTES);
        return new Pages(target, value, lengthBytes);
      case MEMORY_FRAME.zeroes:
        this.#check(value, lengthBytes, target.sizeBytes);
        target.zero(value, lengthBytes);
        return null;
      case MEMORY_FRAME.passEnd:
        // Each once: who counts them waits for one from each connection.
        if (lengthBytes !== 0 || value !== this.#nextPass)
          throw new CodecError(`an end of pass ${value} of ${lengthBytes} bytes, where ${this.#nextPass} is under way`);
        this.#nextPass++;
        target.passEnded(value);
        return null;
      case MEMORY_FRAME.blocks:
      case MEMORY_FRAME.blockZeroes:
        return this.#disks.begin(this.#header, lengthBytes, value);
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

/** Pages go to guest RAM as they come. */
class Pages implements Payload {
  leftBytes: number;
  readonly #target: MemoryTarget;
  #offsetBytes: number;

  constructor(target: MemoryTarget, offsetBytes: number, lengthBytes: number) {
    this.#target = target;
    this.#offsetBytes = offsetBytes;
    this.leftBytes = lengthBytes;
  }

  take(part: Uint8Array): void {
    this.#target.write(this.#offsetBytes, part);
    this.#offsetBytes += part.length;
    this.leftBytes -= part.length;
  }
}

/** Fills `bytes`, and hands them on when they are whole. */
export class Whole implements Payload {
  readonly #bytes: Uint8Array;
  readonly #whole: (bytes: Uint8Array) => void;
  #at = 0;

  constructor(bytes: Uint8Array, whole: (bytes: Uint8Array) => void) {
    this.#bytes = bytes;
    this.#whole = whole;
  }

  get leftBytes(): number {
    return this.#bytes.length - this.#at;
  }

  take(part: Uint8Array): void {
    this.#bytes.set(part, this.#at);
    this.#at += part.length;
    if (this.leftBytes === 0) this.#whole(this.#bytes);
  }
}
