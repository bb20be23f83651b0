import { crc32 } from "node:zlib";
import { ByteReader } from "../../codec/byte-reader.ts";
import { ByteWriter } from "../../codec/byte-writer.ts";
import { CodecError } from "../../codec/codec-error.ts";

/**
 * The outer form of a saved state:
 *
 *   magic "TYPEVMST" · version u16 · reserved u16 · section ... · end section
 *   section: id u16 · flags u16 · length u32 · crc32 u32 of id, flags, length and payload · payload
 *
 * The end section has id 0 and the number of sections before it as its payload, so that a file that was cut at a
 * section's border is noticed. A reader skips sections that it does not know where their flag allows it.
 */
const MAGIC = new TextEncoder().encode("TYPEVMST");
const HEADER_BYTES = 12;
const END_ID = 0;
const FLAG_SKIPPABLE = 1;
const MAX_SECTIONS = 256;

/** The format that is written. Raised when a section changes its shape; readers take the version before, too. */
export const STATE_VERSION = 1;
const OLDEST_VERSION = 1;

export interface Section {
  /** 1 to 65535; each at most once. */
  readonly id: number;
  readonly payload: Uint8Array;
  /** A reader that does not know the section may go on without it. */
  readonly isSkippable?: boolean;
}

export function encodeSections(sections: readonly Section[]): Uint8Array {
  const writer = new ByteWriter();
  writer.raw(MAGIC);
  writer.uint(STATE_VERSION, 2);
  writer.uint(0, 2);
  const count = new ByteWriter();
  count.uint(sections.length, 4);
  for (const section of [...sections, { id: END_ID, payload: count.bytes }]) {
    const header = sectionHeader(section);
    writer.raw(header);
    writer.uint(crc32(section.payload, crc32(header)), 4);
    writer.raw(section.payload);
  }
  return writer.bytes;
}

function sectionHeader({ id, payload, isSkippable }: Section): Uint8Array {
  const header = new ByteWriter();
  header.uint(id, 2);
  header.uint(isSkippable ? FLAG_SKIPPABLE : 0, 2);
  header.uint(payload.length, 4);
  return header.bytes;
}

export interface DecodedSections {
  readonly version: number;
  readonly payloads: ReadonlyMap<number, Uint8Array>;
}

/** The sections of `bytes`, whole and unharmed; those not in `known` are left out if they may be. Throws CodecError. */
export function decodeSections(bytes: Uint8Array, known: ReadonlySet<number>): DecodedSections {
  const reader = new ByteReader(bytes, 0);
  const version = readHead(reader);
  const payloads = new Map<number, Uint8Array>();
  const seen = new Set<number>();
  for (;;) {
    const { id, isSkippable, payload } = readSection(reader);
    if (id === END_ID) {
      checkEnd(reader, payload, seen.size);
      return { version, payloads };
    }
    if (seen.has(id)) throw new CodecError(`section ${id} is there twice`);
    if (seen.size === MAX_SECTIONS) throw new CodecError(`more than ${MAX_SECTIONS} sections`);
    seen.add(id);
    if (known.has(id)) payloads.set(id, payload);
    else if (!isSkippable)
      throw new CodecError(`section ${id} is unknown here; use the launcher version that wrote it`);
  }
}

function readHead(reader: ByteReader): number {
  const magic = reader.raw(MAGIC.length);
  if (MAGIC.some((byte, i) => magic[i] !== byte)) throw new CodecError("this is no state of a machine");
  const version = reader.uint(2);
  if (version < OLDEST_VERSION || version > STATE_VERSION)
    throw new CodecError(
      `format version ${version}; this launcher reads ${OLDEST_VERSION} to ${STATE_VERSION}, use the one that wrote it`,
    );
  if (reader.uint(2) !== 0) throw new CodecError("the header is damaged");
  return version;
}

function readSection(reader: ByteReader): { id: number; isSkippable: boolean; payload: Uint8Array } {
  const header = reader.raw(HEADER_BYTES - 4);
  const fields = new ByteReader(header, 0);
  const [id, flags, lengthBytes] = [fields.uint(2), fields.uint(2), fields.uint(4)];
  const expected = reader.uint(4);
  const payload = reader.raw(lengthBytes);
  if (crc32(payload, crc32(header)) !== expected) throw new CodecError(`section ${id} is damaged`);
  if ((flags & ~FLAG_SKIPPABLE) !== 0) throw new CodecError(`section ${id} has flags that are unknown here`);
  return { id, isSkippable: (flags & FLAG_SKIPPABLE) !== 0, payload };
}

function checkEnd(reader: ByteReader, payload: Uint8Array, count: number): void {
  if (new ByteReader(payload, 0).uint(4) !== count || payload.length !== 4)
    throw new CodecError("the end does not fit the sections before it");
  if (reader.leftBytes > 0) throw new CodecError(`${reader.leftBytes} bytes behind the end`);
}
