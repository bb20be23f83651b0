import { DiskError } from "../disk-error.ts";
import { featureName, INCOMPATIBLE, parseExtensions, type Qcow2Extensions, text } from "./header-extensions.ts";

/** "QFI" and 0xfb, at the start of the file. */
export const QCOW2_MAGIC: readonly number[] = [0x51, 0x46, 0x49, 0xfb];
/** Enough for the header, its extensions and the names in it. */
export const HEADER_READ_BYTES = 64 * 1024;

const V2_HEADER_BYTES = 72;
const V3_HEADER_BYTES = 104;
const MIN_CLUSTER_BITS = 9;
const MAX_CLUSTER_BITS = 21;
const MIN_EXTENDED_L2_CLUSTER_BITS = 14;
const SUBCLUSTERS = 32;
const ENTRY_BYTES = 8;
const SECTOR_BYTES = 512;
/** As QEMU, which makes no image with more; 64 TiB in clusters of 64 KiB take 1 MiB. */
const L1_LIMIT_BYTES = 32 * 1024 * 1024;
const SIZE_LIMIT_BYTES = 64 * 2 ** 40;
const NAME_LIMIT_BYTES = 1023;
const CONVERT = "convert it with `qemu-img convert -O qcow2`";

export type CompressionType = "zlib" | "zstd";

/** What reading an image takes to know (QEMU docs/interop/qcow2, "Header"). */
export interface Qcow2Header {
  readonly version: 2 | 3;
  /** Of the disk, in whole sectors. */
  readonly sizeBytes: number;
  readonly clusterBytes: number;
  /** What has a state of its own: a cluster, or with extended L2 entries a 32nd of one. */
  readonly subclusterBytes: number;
  readonly hasExtendedL2: boolean;
  readonly compression: CompressionType;
  readonly l1OffsetBytes: number;
  /** As many as the disk's size takes. */
  readonly l1Entries: number;
  /** Of an L2 table. */
  readonly l2Entries: number;
  readonly l2EntryBytes: number;
  /** Of the file. */
  readonly fileBytes: number;
}

export function isQcow2(start: Uint8Array): boolean {
  return QCOW2_MAGIC.every((byte, i) => start[i] === byte);
}

/**
 * Reads the header of an image that is used for reading only. `start` is the file's first HEADER_READ_BYTES, or all of
 * it. What needs more than the one file, or what this version cannot read, is refused with DiskError. Accepted as they
 * do not matter to a reader: internal snapshots, reference counts, bitmaps, the dirty bit (reference counts are stale).
 */
export function parseHeader(disk: string, start: Uint8Array, fileBytes: number): Qcow2Header {
  const refuse: Refuse = (problem, wayOut) => new DiskError(disk, `the image's qcow2 disk ${problem}; ${wayOut}`);
  if (start.length < V2_HEADER_BYTES) throw refuse("ends within its header", "rebuild the image");
  const fields = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const version = fields.getUint32(4);
  if (version !== 2 && version !== 3) throw refuse(`has version ${version}, not 2 or 3`, CONVERT);
  const headerBytes = version === 2 ? V2_HEADER_BYTES : v3HeaderBytes(fields, refuse);
  const clusterBits = fields.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    throw refuse(`has clusters of 2^${clusterBits} bytes, not 512 bytes to 2 MiB`, CONVERT);
  const extensions = parseExtensions(start, headerBytes);
  const features = version === 2 ? { low: 0, high: 0 } : { high: fields.getUint32(72), low: fields.getUint32(76) };
  refuseOtherFiles(start, fields, features.low, extensions, refuse);
  refuseUnknownFeatures(features, extensions, refuse);
  const hasExtendedL2 = (features.low & INCOMPATIBLE.extendedL2) !== 0;
  if (hasExtendedL2 && clusterBits < MIN_EXTENDED_L2_CLUSTER_BITS)
    throw refuse(`has extended L2 entries with clusters of 2^${clusterBits} bytes, below 16 KiB`, CONVERT);
  const clusterBytes = 2 ** clusterBits;
  const l2EntryBytes = hasExtendedL2 ? 2 * ENTRY_BYTES : ENTRY_BYTES;
  const l2Entries = clusterBytes / l2EntryBytes;
  const sizeBytes = Math.ceil(uint64(fields, 24) / SECTOR_BYTES) * SECTOR_BYTES;
  if (sizeBytes === 0 || sizeBytes > SIZE_LIMIT_BYTES)
    throw refuse(`has a size of ${sizeBytes} bytes, not up to 64 TiB`, "rebuild the image");
  return {
    version,
    sizeBytes,
    clusterBytes,
    subclusterBytes: hasExtendedL2 ? clusterBytes / SUBCLUSTERS : clusterBytes,
    hasExtendedL2,
    compression: compressionOf(start, headerBytes, features.low, refuse),
    ...l1Table(fields, { sizeBytes, clusterBytes, l2Entries, fileBytes }, refuse),
    l2Entries,
    l2EntryBytes,
    fileBytes,
  };
}

/** As `qemu-img info` says it, for a log. */
export function describeHeader(header: Qcow2Header): string {
  const kinds = `${header.compression}${header.hasExtendedL2 ? ", extended L2 entries" : ""}`;
  const { version, sizeBytes, clusterBytes, fileBytes } = header;
  return `qcow2 version ${version}, ${sizeBytes} bytes in a file of ${fileBytes}, clusters of ${clusterBytes}, ${kinds}`;
}

type Refuse = (problem: string, wayOut: string) => DiskError;

function v3HeaderBytes(fields: DataView, refuse: Refuse): number {
  const declared = fields.byteLength < V3_HEADER_BYTES ? 0 : fields.getUint32(100);
  if (declared < V3_HEADER_BYTES || declared % 8 !== 0 || declared > fields.byteLength)
    throw refuse("has a damaged header (its length is wrong)", "rebuild the image");
  return declared;
}

/** Nothing but the image itself is opened: a name in it could be that of any file on the node. */
function refuseOtherFiles(
  start: Uint8Array,
  fields: DataView,
  features: number,
  extensions: Qcow2Extensions,
  refuse: Refuse,
): void {
  const backingOffset = uint64(fields, 8);
  if (backingOffset !== 0) {
    const length = Math.min(fields.getUint32(16), NAME_LIMIT_BYTES);
    const name = text(start.subarray(backingOffset, backingOffset + length));
    throw refuse(
      `has a backing file${name && ` (${name})`}, and an image must be whole`,
      "merge both into one with `qemu-img convert -O qcow2`",
    );
  }
  if ((features & INCOMPATIBLE.externalData) !== 0 || extensions.dataFile !== undefined) {
    const name = extensions.dataFile ?? "";
    throw refuse(`has its data in another file${name && ` (${name})`}`, CONVERT);
  }
  const encryption = fields.getUint32(32);
  if (encryption !== 0) throw refuse(`is encrypted (method ${encryption})`, "decrypt it with `qemu-img convert`");
}

function refuseUnknownFeatures(features: { low: number; high: number }, extensions: Qcow2Extensions, refuse: Refuse) {
  const { dirty, corrupt, compression, extendedL2 } = INCOMPATIBLE;
  if ((features.low & corrupt) !== 0)
    throw refuse("is marked as corrupt", "repair it with `qemu-img check -r all`, or rebuild the image");
  const unknownLow = features.low & ~(dirty | corrupt | compression | extendedL2);
  const unknown = [
    ...Array.from({ length: 32 }, (_, bit) => bit).filter((bit) => ((unknownLow >>> bit) & 1) === 1),
    ...Array.from({ length: 32 }, (_, bit) => 32 + bit).filter((bit) => ((features.high >>> (bit - 32)) & 1) === 1),
  ];
  if (unknown.length === 0) return;
  const names = unknown.map((bit) => featureName(extensions, bit)).join(", ");
  throw refuse(`needs features that this version does not know: ${names}`, CONVERT);
}

function compressionOf(start: Uint8Array, headerBytes: number, features: number, refuse: Refuse): CompressionType {
  const type = headerBytes > V3_HEADER_BYTES ? (start[V3_HEADER_BYTES] ?? 0) : 0;
  if ((type !== 0) !== ((features & INCOMPATIBLE.compression) !== 0))
    throw refuse("has a damaged header (compression type and features differ)", "rebuild the image");
  if (type > 1) throw refuse(`is compressed in a way that this version does not know (type ${type})`, CONVERT);
  return type === 1 ? "zstd" : "zlib";
}

interface Geometry {
  readonly sizeBytes: number;
  readonly clusterBytes: number;
  readonly l2Entries: number;
  readonly fileBytes: number;
}

function l1Table(fields: DataView, { sizeBytes, clusterBytes, l2Entries, fileBytes }: Geometry, refuse: Refuse) {
  const l1Entries = Math.ceil(sizeBytes / (clusterBytes * l2Entries));
  const l1OffsetBytes = uint64(fields, 40);
  if (l1Entries * ENTRY_BYTES > L1_LIMIT_BYTES)
    throw refuse(`has ${sizeBytes} bytes in clusters of ${clusterBytes}, too small for as much`, CONVERT);
  const declared = fields.getUint32(36);
  if (declared < l1Entries)
    throw refuse(`is damaged: its L1 table has ${declared} entries, and ${l1Entries} are needed`, "rebuild the image");
  const end = l1OffsetBytes + l1Entries * ENTRY_BYTES;
  if (l1OffsetBytes === 0 || l1OffsetBytes % clusterBytes !== 0 || end > fileBytes)
    throw refuse(
      `is damaged or cut short: its L1 table at ${l1OffsetBytes} is not inside its ${fileBytes} bytes`,
      "rebuild the image",
    );
  return { l1OffsetBytes, l1Entries };
}

/** Above 2^53 not exact, which is far beyond every limit that it is compared with. */
function uint64(fields: DataView, at: number): number {
  return fields.getUint32(at) * 2 ** 32 + fields.getUint32(at + 4);
}
