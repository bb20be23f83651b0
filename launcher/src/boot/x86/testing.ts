import { DirtyBitmap } from "../../memory/dirty-bitmap.ts";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { ramRegions } from "./layout.ts";
import { SETUP_HEADER } from "./setup-header.ts";

export const MIB = 2 ** 20;

/** For tests: guest memory of `sizeBytes` at the addresses of a real machine. */
export function makeMemory(sizeBytes = 32 * MIB): GuestMemory {
  const backing = { buffer: new ArrayBuffer(sizeBytes), hostAddress: 0 };
  return new GuestMemory(backing, ramRegions(sizeBytes), new DirtyBitmap(sizeBytes));
}

export interface BzImageFixture {
  setupSects?: number;
  version?: number;
  loadFlags?: number;
  xloadFlags?: number;
  relocatable?: number;
  alignment?: number;
  prefAddress?: bigint;
  initSize?: number;
  initrdAddrMax?: number;
  commandLineSize?: number;
  /** Protected-mode code; a multiple of 16 bytes. */
  payload?: Uint8Array;
}

/** For tests: a file that looks to a loader like a modern 64-bit bzImage. */
export function makeBzImage(fixture: BzImageFixture = {}): Uint8Array {
  const { setupSects = 1, payload = new Uint8Array(0x1000).fill(0x90) } = fixture;
  const file = new Uint8Array(((setupSects || 4) + 1) * 512 + payload.length);
  const view = new DataView(file.buffer);
  view.setUint8(SETUP_HEADER.setupSects, setupSects);
  view.setUint32(SETUP_HEADER.sysSize, payload.length / 16, true);
  view.setUint16(SETUP_HEADER.bootFlag, 0xaa55, true);
  view.setUint16(0x200, 0x6aeb, true);
  view.setUint32(SETUP_HEADER.magic, 0x53726448, true);
  view.setUint16(SETUP_HEADER.version, fixture.version ?? 0x20f, true);
  view.setUint8(SETUP_HEADER.loadFlags, fixture.loadFlags ?? 1);
  view.setUint32(SETUP_HEADER.initrdAddrMax, fixture.initrdAddrMax ?? 0x7fffffff, true);
  view.setUint32(SETUP_HEADER.kernelAlignment, fixture.alignment ?? 2 * MIB, true);
  view.setUint8(SETUP_HEADER.relocatable, fixture.relocatable ?? 1);
  view.setUint16(SETUP_HEADER.xloadFlags, fixture.xloadFlags ?? 1, true);
  view.setUint32(SETUP_HEADER.commandLineSize, fixture.commandLineSize ?? 2047, true);
  view.setBigUint64(SETUP_HEADER.prefAddress, fixture.prefAddress ?? BigInt(16 * MIB), true);
  view.setUint32(SETUP_HEADER.initSize, fixture.initSize ?? 0x4000, true);
  file.set(payload, file.length - payload.length);
  return file;
}

export interface ElfSegmentFixture {
  type?: number;
  address?: number | bigint;
  bytes?: Uint8Array;
  /** Claimed sizes, where they differ from `bytes`. */
  fileBytes?: number | bigint;
  memoryBytes?: number | bigint;
  offset?: number | bigint;
}

export interface ElfFixture {
  bits?: 32 | 64;
  encoding?: number;
  machine?: number;
  type?: number;
  entry?: number | bigint;
  /** Claimed ones, where they differ. */
  programHeaderBytes?: number;
  programHeaderCount?: number;
  programHeaderOffset?: number | bigint;
  segments?: ElfSegmentFixture[];
}

/** For tests: an ELF file with the segments one after the other behind its headers. */
export function makeElf(fixture: ElfFixture = {}): Uint8Array {
  const { bits = 64, segments = [{ address: MIB, bytes: new Uint8Array(64).fill(0x90) }] } = fixture;
  const wide = bits === 64;
  const headerBytes = wide ? 64 : 52;
  const programBytes = wide ? 56 : 32;
  let end = headerBytes + programBytes * segments.length;
  const offsets = segments.map(({ bytes }) => {
    const at = end;
    end += bytes?.length ?? 0;
    return at;
  });
  const file = new Uint8Array(end);
  const view = new DataView(file.buffer);
  const word = (at: number, value: number | bigint) =>
    wide ? view.setBigUint64(at, BigInt(value), true) : view.setUint32(at, Number(value), true);
  file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, fixture.encoding ?? 1, 1]);
  view.setUint16(16, fixture.type ?? 2, true);
  view.setUint16(18, fixture.machine ?? (wide ? 62 : 3), true);
  word(24, fixture.entry ?? MIB);
  word(wide ? 32 : 28, fixture.programHeaderOffset ?? headerBytes);
  view.setUint16(wide ? 54 : 42, fixture.programHeaderBytes ?? programBytes, true);
  view.setUint16(wide ? 56 : 44, fixture.programHeaderCount ?? segments.length, true);
  segments.forEach((segment, index) => {
    const at = headerBytes + index * programBytes;
    const bytes = segment.bytes ?? new Uint8Array(0);
    const offset = offsets[index] ?? 0;
    const claimedFileBytes = segment.fileBytes ?? bytes.length;
    view.setUint32(at, segment.type ?? 1, true);
    word(at + (wide ? 8 : 4), segment.offset ?? offset);
    word(at + (wide ? 24 : 12), segment.address ?? 0);
    word(at + (wide ? 32 : 16), claimedFileBytes);
    word(at + (wide ? 40 : 20), segment.memoryBytes ?? claimedFileBytes);
    word(at + (wide ? 48 : 28), 4);
    file.set(bytes, offset);
  });
  return file;
}

/** For tests: one ELF note; `value` is padded to 4 bytes. */
export function makeNote(name: string, type: number, value: Uint8Array): Uint8Array {
  const padded = (size: number) => Math.ceil(size / 4) * 4;
  const note = new Uint8Array(12 + padded(name.length) + padded(value.length));
  const view = new DataView(note.buffer);
  view.setUint32(0, name.length, true);
  view.setUint32(4, value.length, true);
  view.setUint32(8, type, true);
  note.set(new TextEncoder().encode(name), 12);
  note.set(value, 12 + padded(name.length));
  return note;
}

/** For tests: the note that gives a kernel its PVH entry point. */
export function makePvhNote(entry: number): Uint8Array {
  const value = new Uint8Array(4);
  new DataView(value.buffer).setUint32(0, entry, true);
  return makeNote("Xen\0", 18, value);
}
