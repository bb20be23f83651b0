const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];
const DICTIONARY_ID_BYTES = [0, 1, 2, 4];
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];
const BLOCK_HEADER_BYTES = 3;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;
const CHECKSUM_BYTES = 4;

/**
 * How long the zstd frame at the start of `bytes` is (RFC 8878, section 3.1.1); -1 when there is none, or not all of
 * it. A compressed cluster ends where the frame says, and is followed by whatever comes next in the file.
 */
export function zstdFrameBytes(bytes: Uint8Array): number {
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) return -1;
  const descriptor = bytes[MAGIC.length] ?? 0;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const contentSizeFlag = descriptor >>> 6;
  const contentSizeBytes = contentSizeFlag === 0 && isSingleSegment ? 1 : (CONTENT_SIZE_BYTES[contentSizeFlag] ?? 0);
  const windowBytes = isSingleSegment ? 0 : 1;
  let at = MAGIC.length + 1 + windowBytes + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) + contentSizeBytes;
  for (let isLast = false; !isLast; ) {
    if (at + BLOCK_HEADER_BYTES > bytes.length) return -1;
    const header = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16);
    const [type, sizeBytes] = [(header >>> 1) & 3, header >>> 3];
    if (type === BLOCK_RESERVED) return -1;
    at += BLOCK_HEADER_BYTES + (type === BLOCK_RLE ? 1 : sizeBytes);
    isLast = (header & 1) === 1;
  }
  if ((descriptor & 0x04) !== 0) at += CHECKSUM_BYTES;
  return at <= bytes.length ? at : -1;
}
