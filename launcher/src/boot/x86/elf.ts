/**
 * Reading ELF headers (System V ABI, "Object Files"). The bytes are hostile: every count and offset is bounded here,
 * and each reader gives null or throws ElfError where they do not add up.
 */

/** e_machine values that are told apart by name in messages. */
export const ELF_MACHINES: Readonly<Record<number, string>> = {
  2: "SPARC",
  3: "32-bit x86",
  8: "MIPS",
  20: "32-bit PowerPC",
  21: "64-bit PowerPC",
  22: "IBM Z",
  40: "32-bit Arm",
  43: "64-bit SPARC",
  62: "x86-64",
  183: "64-bit Arm",
  243: "RISC-V",
  258: "LoongArch",
};
export const EM_386 = 3;
export const EM_X86_64 = 62;

export const ET_EXEC = 2;
export const ET_DYN = 3;
/** e_type values as words for messages. */
export const ELF_TYPES: Readonly<Record<number, string>> = {
  1: "an object file or kernel module",
  2: "an executable",
  3: "a position-independent executable or shared library",
  4: "a core dump",
};

export const PT_LOAD = 1;
export const PT_INTERP = 3;
export const PT_NOTE = 4;

/** More program headers than any kernel has. */
const MAX_PROGRAM_HEADERS = 128;

/** A header that contradicts itself; `message` completes "the ELF header claims ...". */
export class ElfError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ElfError";
  }
}

export interface ElfHeader {
  readonly bits: 32 | 64;
  readonly littleEndian: boolean;
  readonly machine: number;
  readonly type: number;
  /** Physical, for kernels. */
  readonly entry: number;
  readonly programHeaders: { readonly offset: number; readonly entryBytes: number; readonly count: number };
}

export interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly physicalAddress: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
  readonly alignment: number;
}

export function isElf(head: Uint8Array): boolean {
  return head.length >= 4 && head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46;
}

/** The ELF header; null where `head` is too short for one. Throws ElfError for classes and encodings that are none. */
export function readElfHeader(head: Uint8Array): ElfHeader | null {
  const bits = head[4] === 1 ? 32 : 64;
  if (head.length < (bits === 32 ? 52 : 64)) return null;
  if (head[4] !== 1 && head[4] !== 2) throw new ElfError(`class ${head[4]}`);
  if (head[5] !== 1 && head[5] !== 2) throw new ElfError(`data encoding ${head[5]}`);
  const little = head[5] === 1;
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const counts = bits === 32 ? 42 : 54;
  return {
    bits,
    littleEndian: little,
    type: view.getUint16(16, little),
    machine: view.getUint16(18, little),
    entry: bits === 32 ? view.getUint32(24, little) : Number(view.getBigUint64(24, little)),
    programHeaders: {
      offset: bits === 32 ? view.getUint32(28, little) : Number(view.getBigUint64(32, little)),
      entryBytes: view.getUint16(counts, little),
      count: view.getUint16(counts + 2, little),
    },
  };
}

/** Where the program header table lies in the file. Throws ElfError for a table that no kernel has. */
export function programHeaderTable(header: ElfHeader): { offset: number; sizeBytes: number } {
  const { offset, entryBytes, count } = header.programHeaders;
  if (entryBytes !== (header.bits === 32 ? 32 : 56)) throw new ElfError(`program headers of ${entryBytes} bytes`);
  if (count === 0) throw new ElfError("no program headers");
  if (count > MAX_PROGRAM_HEADERS) throw new ElfError(`${count} program headers`);
  return { offset, sizeBytes: entryBytes * count };
}

/** `table` holds whole little-endian program headers. */
export function readProgramHeaders(header: ElfHeader, table: Uint8Array): ProgramHeader[] {
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  const programs: ProgramHeader[] = [];
  for (let at = 0; at < table.length; at += header.programHeaders.entryBytes)
    programs.push(header.bits === 32 ? readProgram32(view, at) : readProgram64(view, at));
  return programs;
}

function readProgram32(view: DataView, at: number): ProgramHeader {
  const word = (index: number) => view.getUint32(at + index * 4, true);
  return {
    type: word(0),
    offset: word(1),
    physicalAddress: word(3),
    fileBytes: word(4),
    memoryBytes: word(5),
    alignment: word(7),
  };
}

function readProgram64(view: DataView, at: number): ProgramHeader {
  const long = (offset: number) => Number(view.getBigUint64(at + offset, true));
  return {
    type: view.getUint32(at, true),
    offset: long(8),
    physicalAddress: long(24),
    fileBytes: long(32),
    memoryBytes: long(40),
    alignment: long(48),
  };
}

/** XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h): the PVH entry point. */
const NOTE_PHYS32_ENTRY = 18;
/** "Xen\0" as a little-endian word. */
const NOTE_NAME_XEN = 0x006e_6558;
const NOTE_HEADER_BYTES = 12;

/** The PVH entry point among the notes of one segment, or null. Ends at the first note that leaves the segment. */
export function findPvhEntry(notes: Uint8Array, alignment: number): number | null {
  const view = new DataView(notes.buffer, notes.byteOffset, notes.length);
  const unit = alignment === 8 ? 8 : 4;
  const padded = (sizeBytes: number) => Math.ceil(sizeBytes / unit) * unit;
  let at = 0;
  while (at + NOTE_HEADER_BYTES <= notes.length) {
    const nameBytes = view.getUint32(at, true);
    const valueBytes = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const name = at + NOTE_HEADER_BYTES;
    const value = at + padded(NOTE_HEADER_BYTES + nameBytes);
    if (value + valueBytes > notes.length) return null;
    const isXen = nameBytes === 4 && view.getUint32(name, true) === NOTE_NAME_XEN;
    if (isXen && type === NOTE_PHYS32_ENTRY && (valueBytes === 4 || valueBytes === 8))
      return view.getUint32(value, true);
    at = value + padded(valueBytes);
  }
  return null;
}
