import { latin1, putBoth16, putBoth32, ucs2 } from "./numbers.ts";

/** The logical sector, and the logical block of these volumes. */
export const SECTOR = 2048;

const RECORD_HEADER_BYTES = 33;
/** A record's length is one byte, and even. */
export const RECORD_LIMIT_BYTES = 254;
const IS_DIRECTORY = 2;
/** Section 9.1.5: 1980-01-01 00:00 UTC. The same files make the same image, whenever it is made. */
const RECORD_DATE = [80, 1, 1, 0, 0, 0, 0];
const VOLUME_DATE = "1980010100000000\0";
const NO_DATE = "0000000000000000\0";

export interface Extent {
  readonly sector: number;
  readonly lengthBytes: number;
}

/** A directory record (section 9.1). `identifier` is "\0" for the directory itself, "\1" for its parent. */
export function directoryRecord(
  identifier: Uint8Array,
  extent: Extent,
  isDirectory: boolean,
  systemUse: readonly Uint8Array[] = [],
): Uint8Array {
  const useOffset = evenUp(RECORD_HEADER_BYTES + identifier.length);
  const useBytes = systemUse.reduce((sum, { length }) => sum + length, 0);
  const record = new Uint8Array(evenUp(useOffset + useBytes));
  const view = new DataView(record.buffer);
  record[0] = record.length;
  putBoth32(view, 2, extent.sector);
  putBoth32(view, 10, extent.lengthBytes);
  record.set(RECORD_DATE, 18);
  record[25] = isDirectory ? IS_DIRECTORY : 0;
  putBoth16(view, 28, 1);
  record[32] = identifier.length;
  record.set(identifier, RECORD_HEADER_BYTES);
  let at = useOffset;
  for (const entry of systemUse) {
    record.set(entry, at);
    at += entry.length;
  }
  return record;
}

/** Room for system use in a record with this identifier. */
export function systemUseRoom(identifier: Uint8Array): number {
  return RECORD_LIMIT_BYTES - evenUp(RECORD_HEADER_BYTES + identifier.length);
}

/** Records one after the other, none across the end of a sector (section 6.8.1.1); whole sectors. */
export function packRecords(records: readonly Uint8Array[]): Uint8Array {
  const starts: number[] = [];
  let end = 0;
  for (const { length } of records) {
    const start = startOfNext(end, length);
    starts.push(start);
    end = start + length;
  }
  const packed = new Uint8Array(wholeSectors(end));
  records.forEach((record, i) => {
    packed.set(record, starts[i] ?? 0);
  });
  return packed;
}

/** Where a record goes behind one that ends at `endOffset`. */
export function startOfNext(endOffset: number, lengthBytes: number): number {
  return (endOffset % SECTOR) + lengthBytes > SECTOR ? wholeSectors(endOffset) : endOffset;
}

/** Path table (section 9.4) of a volume that has no directory but its root, least or most significant byte first. */
export function pathTable(rootSector: number, littleEndian: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(PATH_TABLE_BYTES));
  view.setUint8(0, 1);
  view.setUint32(2, rootSector, littleEndian);
  view.setUint16(6, 1, littleEndian);
  return new Uint8Array(view.buffer);
}
const PATH_TABLE_BYTES = 10;

export interface VolumeDescription {
  readonly label: string;
  readonly isJoliet: boolean;
  readonly sectors: number;
  readonly pathTableSector: { readonly little: number; readonly big: number };
  readonly root: Extent;
}

/** Primary volume descriptor (section 8.4), or the supplementary one of Joliet (section 8.5), a sector. */
export function volumeDescriptor(volume: VolumeDescription): Uint8Array {
  const { isJoliet } = volume;
  const sector = new Uint8Array(SECTOR);
  const view = new DataView(sector.buffer);
  const text = (offset: number, lengthBytes: number, value = "") => {
    const padded = isJoliet ? ucs2(value.padEnd(lengthBytes >> 1)) : latin1(value.padEnd(lengthBytes));
    sector.set(padded.subarray(0, lengthBytes), offset);
  };
  header(sector, isJoliet ? 2 : 1);
  text(8, 32);
  text(40, 32, volume.label);
  putBoth32(view, 80, volume.sectors);
  // The escape sequence of UCS-2 level 3.
  if (isJoliet) sector.set(latin1("%/E"), 88);
  putBoth16(view, 120, 1);
  putBoth16(view, 124, 1);
  putBoth16(view, 128, SECTOR);
  putBoth32(view, 132, PATH_TABLE_BYTES);
  view.setUint32(140, volume.pathTableSector.little, true);
  view.setUint32(148, volume.pathTableSector.big, false);
  sector.set(directoryRecord(Uint8Array.of(0), volume.root, true), 156);
  for (const offset of [190, 318, 446, 574]) text(offset, 128);
  for (const offset of [702, 739, 776]) text(offset, 37);
  for (const [offset, date] of [
    [813, VOLUME_DATE],
    [830, VOLUME_DATE],
    [847, NO_DATE],
    [864, NO_DATE],
  ] as const)
    sector.set(latin1(date), offset);
  // File structure version.
  sector[881] = 1;
  return sector;
}

/** Volume descriptor set terminator (section 8.3), a sector. */
export function terminator(): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  header(sector, 255);
  return sector;
}

function header(sector: Uint8Array, type: number): void {
  sector[0] = type;
  sector.set(latin1("CD001"), 1);
  sector[6] = 1;
}

export function wholeSectors(lengthBytes: number): number {
  return Math.ceil(lengthBytes / SECTOR) * SECTOR;
}

function evenUp(lengthBytes: number): number {
  return lengthBytes + (lengthBytes % 2);
}
