/**
 * The control connection of a migration, in TLS. Each frame: type u16 · reserved u16 · length u32 · crc32 u32 · payload.
 *
 *   source                               target
 *   Hello  (Connecting)          ->
 *                                <-      Welcome (Receiving), or Refused, and the connection ends
 *   memory over connections of their own, in passes; each ends with a mark on each of them
 *                                <-      PassReceived, when all marks of a pass are there: only then the next one starts
 *   State  (HandingOver)         ->      behind the mark of the last pass
 *                                <-      Prepared, when memory and state are loaded, or Refused
 *   Commit (Committed)           ->      (Running)
 *                                <-      Running; the source is Gone
 *   Abort  (before Commit)       ->      (Failed)
 *
 * A frame that is not expected in a phase, or is not whole, ends the connection; what that means is handover/'s business.
 * The memory connections have frames of their own: type u32 · length u32 · value u64, see MEMORY_FRAME.
 */
import { crc32 } from "node:zlib";
import { ByteReader } from "../codec/byte-reader.ts";
import {
  bytes,
  type Codec,
  decode,
  encode,
  fixedBytes,
  list,
  record,
  text,
  u16,
  u32,
  u53,
  uint,
  type ValueOf,
} from "../codec/codec.ts";
import { CodecError } from "../codec/codec-error.ts";

/** Raised when frames change their meaning; a target takes the version before, too. */
export const PROTOCOL_VERSION = 1;

export const TOKEN_BYTES = 32;
export const MAX_CONNECTIONS = 8;
const STATE_LIMIT_BYTES = 512 * 2 ** 20;
const MESSAGE_BYTES = 4096;

const nothing = record({});
const cpuidEntry = record({ leaf: u32, subleaf: u32, flags: u32, eax: u32, ebx: u32, ecx: u32, edx: u32 });

/** Of each frame: its number, and what it carries. */
const frames = {
  hello: {
    type: 1,
    payload: record({
      version: u16,
      uid: text(36),
      launcherVersion: text(64),
      memoryBytes: u53(),
      connections: uint(1, MAX_CONNECTIONS),
      processors: list(record({ cpuid: list(cpuidEntry, 256) }), 64),
    }),
  },
  /** `token` lets memory connections in. */
  welcome: { type: 2, payload: record({ version: u16, token: fixedBytes(TOKEN_BYTES), memoryPort: u16 }) },
  refused: { type: 3, payload: record({ message: text(MESSAGE_BYTES) }) },
  passReceived: { type: 4, payload: record({ pass: u32 }) },
  state: { type: 5, payload: record({ pass: u32, state: bytes(STATE_LIMIT_BYTES) }) },
  prepared: { type: 6, payload: record({ loadMs: u32 }) },
  commit: { type: 7, payload: nothing },
  running: { type: 8, payload: record({ resumeMs: u32 }) },
  abort: { type: 9, payload: record({ message: text(MESSAGE_BYTES) }) },
} as const;

export type FrameName = keyof typeof frames;
export type PayloadOf<Name extends FrameName> = ValueOf<(typeof frames)[Name]["payload"]>;
export type Frame = {
  readonly [Name in FrameName]: { readonly name: Name; readonly payload: PayloadOf<Name> };
}[FrameName];
export type HelloPayload = PayloadOf<"hello">;

const HEADER_BYTES = 12;

export function encodeFrame<Name extends FrameName>(name: Name, payload: PayloadOf<Name>): Uint8Array {
  const { type, payload: codec } = frames[name];
  const body = encode(codec as Codec<PayloadOf<Name>>, payload);
  const frame = new Uint8Array(HEADER_BYTES + body.length);
  const view = new DataView(frame.buffer);
  view.setUint16(0, type, true);
  view.setUint32(4, body.length, true);
  view.setUint32(8, crc32(body), true);
  frame.set(body, HEADER_BYTES);
  return frame;
}

/** Cuts a stream of bytes, which may be anything, into frames. Holds no more than the frame that is on its way. */
export class FrameReader {
  #chunks: Uint8Array[] = [];
  #heldBytes = 0;

  /** The frames that `chunk` completes. Throws CodecError; the stream is of no use after. */
  push(chunk: Uint8Array): Frame[] {
    this.#chunks.push(chunk);
    this.#heldBytes += chunk.length;
    const found: Frame[] = [];
    for (let frame = this.#take(); frame; frame = this.#take()) found.push(frame);
    return found;
  }

  #take(): Frame | null {
    if (this.#heldBytes < HEADER_BYTES) return null;
    const header = new ByteReader(this.#peek(HEADER_BYTES), 0);
    const [type, reserved, lengthBytes, checksum] = [header.uint(2), header.uint(2), header.uint(4), header.uint(4)];
    const name = nameOf(type);
    if (reserved !== 0 || lengthBytes > limitOf(name)) throw new CodecError(`a ${name} frame of ${lengthBytes} bytes`);
    if (this.#heldBytes < HEADER_BYTES + lengthBytes) return null;
    const whole = this.#peek(HEADER_BYTES + lengthBytes);
    this.#chunks = [whole.subarray(HEADER_BYTES + lengthBytes)];
    this.#heldBytes -= HEADER_BYTES + lengthBytes;
    const body = whole.subarray(HEADER_BYTES, HEADER_BYTES + lengthBytes);
    if (crc32(body) !== checksum) throw new CodecError(`a ${name} frame is damaged`);
    const codec = frames[name].payload as Codec<never>;
    return { name, payload: decode(codec, body, PROTOCOL_VERSION) } as Frame;
  }

  /** The first bytes, at least as many as asked for, as one array. */
  #peek(lengthBytes: number): Uint8Array {
    const [first] = this.#chunks;
    if (first && first.length >= lengthBytes) return first;
    const joined = new Uint8Array(this.#heldBytes);
    let at = 0;
    for (const chunk of this.#chunks) {
      joined.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [joined];
    return joined;
  }
}

function nameOf(type: number): FrameName {
  for (const name of Object.keys(frames) as FrameName[]) if (frames[name].type === type) return name;
  throw new CodecError(`a frame of type ${type}, which is unknown here`);
}

function limitOf(name: FrameName): number {
  if (name === "state") return STATE_LIMIT_BYTES + 8;
  return name === "hello" ? 64 * 256 * 28 + MESSAGE_BYTES : MESSAGE_BYTES + 8;
}

/** Frames of a memory connection; only the source sends. */
export const MEMORY_FRAME = {
  /** The first: `length` bytes of token follow. */
  hello: 1,
  /** `length` bytes of guest RAM at offset `value` follow, whole pages. */
  pages: 2,
  /** `length` bytes of guest RAM at offset `value` are zeroes; nothing follows. */
  zeroes: 3,
  /** All of pass `value` was sent on this connection. */
  passEnd: 4,
} as const;
export const MEMORY_HEADER_BYTES = 16;
/** Of one pages frame. */
export const PAGES_LIMIT_BYTES = 2 ** 20;

export function memoryHeader(type: number, lengthBytes: number, value: number): Buffer {
  const header = Buffer.alloc(MEMORY_HEADER_BYTES);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(lengthBytes, 4);
  header.writeUInt32LE(value % 2 ** 32, 8);
  header.writeUInt32LE(Math.floor(value / 2 ** 32), 12);
  return header;
}
