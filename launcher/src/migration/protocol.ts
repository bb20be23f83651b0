/**
 * The control connection of a migration, in TLS. Each frame: type u16 · reserved u16 · length u32 · crc32 u32 · payload.
 *
 *   source                               target
 *   Hello  (Connecting)          ->
 *                                <-      Welcome (Receiving), or Refused, and the connection ends
 *                                <-      WantDisks, the disks that are to be copied (since version 2)
 *   memory and disks over connections of their own, in passes; each ends with a mark on each of them
 *   Images                       ->      what the images are that overlays lie over, where there are any (since version 2)
 *                                <-      ImagesMatch, before the guest is stopped, or Refused
 *                                <-      PassReceived, when all marks of a pass are there: only then the next one starts
 *   State  (HandingOver)         ->      behind the mark of the last pass
 *                                <-      Prepared, when memory and state are loaded, or Refused
 *   Commit (Committed)           ->      (Running)
 *                                <-      Running; the source is Gone
 *   Abort  (before Commit)       ->      (Failed)
 *   Alive                        <->     from Hello on, every few seconds (since version 3)
 *
 * A frame that is not expected in a phase, or is not whole, ends the connection; what that means is handover/'s business.
 * The memory connections have frames of their own: type u32 · length u32 · value u64, see MEMORY_FRAME.
 *
 * A target takes a source of the version before: it says nothing then that this one does not know.
 */
import { crc32 } from "node:zlib";
import { ByteReader } from "../codec/byte-reader.ts";
import {
  bool,
  bytes,
  type Codec,
  decode,
  encode,
  fixedBytes,
  list,
  oneOf,
  record,
  text,
  u16,
  u32,
  u53,
  uint,
  type ValueOf,
} from "../codec/codec.ts";
import { CodecError } from "../codec/codec-error.ts";

/** Raised when frames change their meaning, or there are more; a target takes those from OLDEST_PROTOCOL_VERSION on. */
export const PROTOCOL_VERSION = 3;
export const OLDEST_PROTOCOL_VERSION = 1;
/** The first that copies disks. */
export const DISKS_VERSION = 2;
/** The first whose launchers say that they are alive. */
export const ALIVE_VERSION = 3;

export const TOKEN_BYTES = 32;
export const MAX_CONNECTIONS = 8;
/** Where nobody asks for another number. */
export const USUAL_CONNECTIONS = 2;
const STATE_LIMIT_BYTES = 512 * 2 ** 20;
const MESSAGE_BYTES = 4096;
const DISKS_LIMIT = 32;
const DISK_NAME_BYTES = 20;
/** SHA-256. */
export const IMAGE_DIGEST_BYTES = 32;

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
  /** In the order that memory connections count them. */
  wantDisks: {
    type: 10,
    payload: record({
      disks: list(
        record({
          name: text(DISK_NAME_BYTES),
          /** Of an overlay what the guest wrote over its image, which both have. */
          kind: oneOf(["whole", "overlay"]),
          sizeBytes: u53(),
          /** It reads as zeroes: what is a hole need not be said. */
          isBlank: bool,
        }),
        DISKS_LIMIT,
      ),
    }),
  },
  /** Of each overlay that is wanted, see `digestImage`. */
  images: {
    type: 11,
    payload: record({
      images: list(record({ disk: text(DISK_NAME_BYTES), digest: fixedBytes(IMAGE_DIGEST_BYTES) }), DISKS_LIMIT),
    }),
  },
  imagesMatch: { type: 12, payload: nothing },
  /** Of a target `work` is another number as long as it is taking something in, or writing it. */
  alive: { type: 13, payload: record({ work: u32 }) },
} as const;

export type FrameName = keyof typeof frames;
export type PayloadOf<Name extends FrameName> = ValueOf<(typeof frames)[Name]["payload"]>;
export type Frame = {
  readonly [Name in FrameName]: { readonly name: Name; readonly payload: PayloadOf<Name> };
}[FrameName];
export type HelloPayload = PayloadOf<"hello">;
export type WantedDisk = PayloadOf<"wantDisks">["disks"][number];

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

/** What a frame's header says for that name. */
export function frameTypeOf(name: FrameName): number {
  return frames[name].type;
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
  /** `length` bytes follow: a DiskPart, then as many bytes of that disk, from offset `value` on. */
  blocks: 5,
  /** `length` bytes follow, a DiskPart: its bytes of that disk, from offset `value` on, are zeroes. */
  blockZeroes: 6,
} as const;
export const MEMORY_HEADER_BYTES = 16;
/** Of one pages frame, and of the bytes of one blocks frame. */
export const PAGES_LIMIT_BYTES = 2 ** 20;

export function memoryHeader(type: number, lengthBytes: number, value: number): Buffer {
  const header = Buffer.alloc(MEMORY_HEADER_BYTES);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(lengthBytes, 4);
  header.writeUInt32LE(value % 2 ** 32, 8);
  header.writeUInt32LE(Math.floor(value / 2 ** 32), 12);
  return header;
}

/** disk u32 (its place among those that are wanted) · bytes u32 · crc32 u32 of header, disk, bytes and what follows. */
export const DISK_PART_BYTES = 12;
/** Of one blockZeroes frame. */
export const BLOCK_ZEROES_LIMIT_BYTES = 2 ** 30;
/** What offsets and lengths of disks are multiples of. */
export const DISK_SECTOR_BYTES = 512;

export interface DiskPart {
  readonly disk: number;
  readonly lengthBytes: number;
  readonly checksum: number;
}

/** Header and DiskPart of a frame about `lengthBytes` of a disk, which are `data`, or zeroes where that is null. */
export function diskHeader(disk: number, offsetBytes: number, lengthBytes: number, data: Uint8Array | null): Buffer {
  const type = data ? MEMORY_FRAME.blocks : MEMORY_FRAME.blockZeroes;
  const part = Buffer.alloc(DISK_PART_BYTES);
  part.writeUInt32LE(disk, 0);
  part.writeUInt32LE(lengthBytes, 4);
  const header = Buffer.concat([memoryHeader(type, DISK_PART_BYTES + (data?.length ?? 0), offsetBytes), part]);
  header.writeUInt32LE(diskChecksum(header, data), MEMORY_HEADER_BYTES + 8);
  return header;
}

export function diskPartOf(part: Buffer): DiskPart {
  return { disk: part.readUInt32LE(0), lengthBytes: part.readUInt32LE(4), checksum: part.readUInt32LE(8) };
}

/** TLS keeps strangers from changing anything; this finds what either launcher gets wrong before it is on a disk. */
export function diskChecksum(headerAndPart: Uint8Array, data: Uint8Array | null): number {
  const checked = crc32(headerAndPart.subarray(0, MEMORY_HEADER_BYTES + 8));
  return data ? crc32(data, checked) : checked;
}
