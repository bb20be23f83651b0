import type { Compression } from "./format.ts";
import { ImportError } from "./import-error.ts";

const MIB = 2 ** 20;

/** What an import takes at most, beside page cache, where its configuration does not say. */
export const DEFAULT_MEMORY_BYTES = 64 * MIB;

/** Of that, what is not for a window: measured by hack/bench/import.ts, with the process of xz. */
const OWN_BYTES = 48 * MIB;

/** So much is there for a window however little memory there is: what xz and zstd take without options. */
const SMALLEST_LIMIT_BYTES = 8 * MIB;

/** No format has a larger one that is worth a name. */
const LARGEST_LIMIT_BYTES = 2 ** 31;

/** How large a window (a dictionary) a decompressor may keep, in memory of so many bytes: a power of two. */
export function windowLimitBytes(memoryBytes: number): number {
  const rest = Math.max(SMALLEST_LIMIT_BYTES, memoryBytes - OWN_BYTES);
  return Math.min(2 ** Math.floor(Math.log2(rest)), LARGEST_LIMIT_BYTES);
}

/** Memory with which a window of so many bytes is let in. */
function memoryForBytes(windowBytes: number): number {
  return 2 ** Math.ceil(Math.log2(windowBytes)) + OWN_BYTES;
}

/**
 * Throws ImportError where a file's header asks for a larger window: nothing is allocated for it. What begins behind the
 * first header (blocks of xz, frames of zstd) the decompressors are held to by the same limit.
 */
export function checkWindow(compression: Compression, start: Uint8Array, limitBytes: number): void {
  const windowBytes = windowBytesOf(compression, start);
  if (windowBytes !== undefined && windowBytes > limitBytes) throw windowTooLarge(compression, windowBytes, limitBytes);
}

/** `windowBytes` is undefined where the decompressor says no more than that it is too large. */
export function windowTooLarge(
  compression: Compression,
  windowBytes: number | undefined,
  limitBytes: number,
): ImportError {
  const figure = windowBytes === undefined ? "a larger window" : `a window of ${windowBytes} bytes`;
  const needed =
    windowBytes === undefined || windowBytes > LARGEST_LIMIT_BYTES ? undefined : memoryForBytes(windowBytes);
  const memory = needed === undefined ? "" : `, or give the import memory (requests.memory: ${needed / MIB}Mi)`;
  const again = compression === "xz" ? "xz -6" : "zstd -19";
  return new ImportError(
    "FormatUnsupported",
    `the file is in ${compression} with ${figure}, and the import has memory for one of ${limitBytes} (${limitBytes / MIB}Mi); compress it with a smaller one (\`${again}\`)${memory}`,
  );
}

/** What the header says that decompression keeps; undefined where it says nothing, or is none. */
export function windowBytesOf(compression: Compression, start: Uint8Array): number | undefined {
  const fields = new DataView(start.buffer, start.byteOffset, start.byteLength);
  try {
    if (compression === "xz") return xzDictionaryBytes(fields);
    if (compression === "zstd") return zstdWindowBytes(fields);
  } catch (error) {
    // Cut short: the decompressor finds that out, too.
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}

const XZ_STREAM_HEADER_BYTES = 12;
const LZMA2_FILTER = 0x21;

/** The .xz file format 1.2.1, 3.1 (block header) and 5.3.1 (LZMA2). Throws RangeError where the header is cut short. */
function xzDictionaryBytes(fields: DataView): number | undefined {
  let at = XZ_STREAM_HEADER_BYTES;
  const byte = () => fields.getUint8(at++);
  const integer = () => {
    let value = 0;
    for (let shift = 0, next = 0x80; (next & 0x80) !== 0 && shift < 63; shift += 7) {
      next = byte();
      value += (next & 0x7f) * 2 ** shift;
    }
    return value;
  };
  // An index instead of a block: the file is empty.
  if (byte() === 0) return undefined;
  const flags = byte();
  if ((flags & 0x40) !== 0) integer();
  if ((flags & 0x80) !== 0) integer();
  for (let filters = (flags & 0x03) + 1; filters > 0; filters--) {
    const id = integer();
    const lengthBytes = integer();
    if (id !== LZMA2_FILTER) at += lengthBytes;
    else {
      const bits = byte() & 0x3f;
      return bits >= 40 ? 2 ** 32 - 1 : (2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11);
    }
  }
  return undefined;
}

const ZSTD_MAGIC_BYTES = 4;

/** RFC 8878, 3.1.1.1 (frame header). Throws RangeError where the header is cut short. */
function zstdWindowBytes(fields: DataView): number {
  const descriptor = fields.getUint8(ZSTD_MAGIC_BYTES);
  const next = ZSTD_MAGIC_BYTES + 1;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  if (!isSingleSegment) {
    const window = fields.getUint8(next);
    return 2 ** (10 + (window >> 3)) * (1 + (window & 7) / 8);
  }
  // All of the content is its window.
  const at = next + ([0, 1, 2, 4][descriptor & 0x03] ?? 0);
  switch (descriptor >> 6) {
    case 0:
      return fields.getUint8(at);
    case 1:
      return fields.getUint16(at, true) + 256;
    case 2:
      return fields.getUint32(at, true);
    default:
      return Number(fields.getBigUint64(at, true));
  }
}
