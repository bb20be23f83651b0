import { gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { BootImageError } from "../boot-image-error.ts";
import { type FileSource, readFully } from "../file-source.ts";
import {
  ELF_MACHINES,
  ELF_TYPES,
  ElfError,
  type ElfHeader,
  EM_386,
  EM_X86_64,
  ET_DYN,
  ET_EXEC,
  findPvhEntry,
  type ProgramHeader,
  PT_INTERP,
  PT_LOAD,
  PT_NOTE,
  programHeaderTable,
  readElfHeader,
  readProgramHeaders,
} from "./elf.ts";
import { HIGH_RAM } from "./layout.ts";
import type { LoadedKernel } from "./loaded-kernel.ts";

/** Linux' own limit for x86 (COMMAND_LINE_SIZE), less the terminating zero: an ELF file does not say. */
const COMMAND_LINE_MAX_BYTES = 2047;
/** As Linux says in its bzImages: initrds end below 2 GiB. */
const INITRD_LIMIT = 2 ** 31;
/** Notes beyond this are not looked at. */
const MAX_NOTE_BYTES = 64 * 2 ** 10;
/** What is cleared at a time, so that the event loop is not held up by a large bss. */
const CLEAR_CHUNK_BYTES = 8 * 2 ** 20;
const MIB = 2 ** 20;

/** Loads an ELF kernel or firmware: by its PVH note where it has one, else at its 64-bit entry point. */
export async function loadElf(kernel: FileSource, head: Uint8Array, memory: GuestMemory): Promise<LoadedKernel> {
  try {
    return await load(kernel, head, memory);
  } catch (error) {
    if (!(error instanceof ElfError)) throw error;
    throw new BootImageError(
      "malformed",
      kernel.name,
      `the ELF file claims ${error.message}`,
      "Use an undamaged kernel",
      { cause: error },
    );
  }
}

async function load(kernel: FileSource, head: Uint8Array, memory: GuestMemory): Promise<LoadedKernel> {
  const header = readElfHeader(head);
  if (!header) throw truncated(kernel, 64);
  checkKind(kernel.name, header);
  if (!header.littleEndian) throw new ElfError("big-endian data on a little-endian machine");
  const table = programHeaderTable(header);
  checkInFile(kernel, table.offset, table.sizeBytes);
  const tableBytes = new Uint8Array(table.sizeBytes);
  await readFully(kernel, tableBytes, table.offset);
  const programs = readProgramHeaders(header, tableBytes);

  if (programs.some((program) => program.type === PT_INTERP))
    throw new BootImageError(
      "not-a-kernel",
      kernel.name,
      "this ELF file is a program that needs a dynamic linker, not a kernel",
      "Use a vmlinux or bzImage",
    );
  const pvhEntry = await readPvhEntry(kernel, programs);
  if (pvhEntry === null && header.machine === EM_386)
    throw new BootImageError(
      "unsupported",
      kernel.name,
      "this ELF file for 32-bit x86 has no PVH entry point (ELF note 18 of Xen)",
      "Use a 64-bit kernel, or one built with CONFIG_PVH",
    );
  const segments = checkSegments(kernel, programs, memory);
  const entry = pvhEntry ?? header.entry;
  if (!segments.some((s) => entry >= s.physicalAddress && entry < s.physicalAddress + s.memoryBytes))
    throw new ElfError(`an entry point (0x${entry.toString(16)}) outside of what it loads`);
  for (const segment of segments) await loadSegment(kernel, segment, memory);
  return {
    protocol: pvhEntry === null ? "linux64" : "pvh",
    entry: gpa(entry),
    end: Math.max(...segments.map((s) => s.physicalAddress + s.memoryBytes)),
    head: null,
    initrdLimit: INITRD_LIMIT,
    commandLineMaxBytes: COMMAND_LINE_MAX_BYTES,
  };
}

function checkKind(file: string, header: ElfHeader): void {
  // EDK2 calls itself a 64-bit file for the 386: what counts is the mode in which it is entered.
  if (header.machine !== EM_X86_64 && header.machine !== EM_386)
    throw new BootImageError(
      "wrong-machine",
      file,
      `this ELF file is for ${ELF_MACHINES[header.machine] ?? `machine ${header.machine}`}, and this is an x86-64 machine`,
      "Use a kernel for x86-64 (amd64)",
    );
  if (header.type !== ET_EXEC && header.type !== ET_DYN)
    throw new BootImageError(
      "not-a-kernel",
      file,
      `this ELF file is ${ELF_TYPES[header.type] ?? `of type ${header.type}`}, not a kernel`,
      "Use a vmlinux or bzImage",
    );
}

async function readPvhEntry(kernel: FileSource, programs: readonly ProgramHeader[]): Promise<number | null> {
  for (const program of programs) {
    if (program.type !== PT_NOTE) continue;
    checkInFile(kernel, program.offset, program.fileBytes);
    const notes = new Uint8Array(Math.min(program.fileBytes, MAX_NOTE_BYTES));
    await readFully(kernel, notes, program.offset);
    const entry = findPvhEntry(notes, program.alignment);
    if (entry !== null) return entry;
  }
  return null;
}

/** The segments to load, in order of address: inside the file, inside RAM above the boot structures, not overlapping. */
function checkSegments(kernel: FileSource, programs: readonly ProgramHeader[], memory: GuestMemory): ProgramHeader[] {
  const ramEnd = memory.regions[0]?.sizeBytes ?? 0;
  const segments = programs.filter((p) => p.type === PT_LOAD && p.memoryBytes > 0);
  segments.sort((a, b) => a.physicalAddress - b.physicalAddress);
  if (segments.length === 0) throw new ElfError("nothing to load");
  let free: number = HIGH_RAM;
  for (const segment of segments) {
    const start = segment.physicalAddress;
    const where = `a segment at 0x${start.toString(16)}`;
    if (segment.fileBytes > segment.memoryBytes)
      throw new ElfError(`${where} with more bytes in the file than in memory`);
    if (start < HIGH_RAM) throw new ElfError(`${where}, where boot structures are (below 1 MiB)`);
    if (start < free) throw new ElfError(`${where} that overlaps another one`);
    if (start + segment.memoryBytes > ramEnd)
      throw new BootImageError(
        "kernel-too-large",
        kernel.name,
        `the kernel loads up to ${Math.ceil((start + segment.memoryBytes) / MIB)} MiB, and ${ramEnd / MIB} MiB of memory are below 3 GiB`,
        "Give the machine more memory or use a smaller kernel",
      );
    checkInFile(kernel, segment.offset, segment.fileBytes);
    free = start + segment.memoryBytes;
  }
  return segments;
}

async function loadSegment(kernel: FileSource, segment: ProgramHeader, memory: GuestMemory): Promise<void> {
  const start = segment.physicalAddress;
  await readFully(kernel, memory.view(gpa(start), segment.fileBytes), segment.offset);
  memory.markDirty(gpa(start), segment.fileBytes);
  const end = start + segment.memoryBytes;
  for (let at = start + segment.fileBytes; at < end; at += CLEAR_CHUNK_BYTES) {
    memory.fill(gpa(at), Math.min(CLEAR_CHUNK_BYTES, end - at), 0);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function checkInFile(kernel: FileSource, offset: number, sizeBytes: number): void {
  if (offset + sizeBytes > kernel.sizeBytes) throw truncated(kernel, offset + sizeBytes);
}

function truncated(kernel: FileSource, neededBytes: number): BootImageError {
  return new BootImageError(
    "truncated",
    kernel.name,
    `this ELF file is cut off: ${kernel.sizeBytes} of at least ${neededBytes} bytes are there`,
    "Copy it again, whole",
  );
}
