import { type Gpa, gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { BootImageError } from "../boot-image-error.ts";
import { type FileSource, readFully } from "../file-source.ts";
import { notAKernel } from "../identify.ts";
import { isBzImage, loadBzImage } from "./bzimage.ts";
import { e820Map } from "./e820.ts";
import { isElf } from "./elf.ts";
import { type EntryState, encodeGdt } from "./entry.ts";
import { BOOT_STACK, COMMAND_LINE, GDT, IDT, PML4, PVH_START_INFO, ZERO_PAGE } from "./layout.ts";
import { loadElf } from "./load-elf.ts";
import type { LoadedKernel } from "./loaded-kernel.ts";
import { writeIdentityMap } from "./page-tables.ts";
import { writeResetVector } from "./reset-vector.ts";
import { writeStartInfo } from "./start-info.ts";
import { writeZeroPage } from "./zero-page.ts";

export interface KernelRequest {
  readonly kernel: FileSource;
  readonly initrd?: FileSource | undefined;
  /** Printable ASCII. */
  readonly commandLine: string;
  /** With the regions of `ramRegions`; at least 16 MiB. */
  readonly memory: GuestMemory;
  /** Where `buildAcpiTables` put the RSDP. */
  readonly rsdp: Gpa;
}

const HEAD_BYTES = 64 * 2 ** 10;
const PAGE_BYTES = 4096;
const MIB = 2 ** 20;

/**
 * Loads kernel, initrd, command line and boot structures into guest memory, and says how to enter the kernel.
 * Files are read in place, without a copy in between. Throws BootImageError for whatever is wrong with the files or
 * the command line; guest memory is then in part written.
 */
export async function loadKernel(request: KernelRequest): Promise<EntryState> {
  const { kernel, memory } = request;
  const head = new Uint8Array(Math.min(HEAD_BYTES, kernel.sizeBytes));
  await readFully(kernel, head, 0);
  const loaded = await loadImage(kernel, head, memory);
  const commandLine = writeCommandLine(request, loaded.commandLineMaxBytes);
  const initrd = request.initrd ? await loadInitrd(request.initrd, loaded, memory) : null;
  return writeBootStructures(request, loaded, commandLine, initrd);
}

function loadImage(kernel: FileSource, head: Uint8Array, memory: GuestMemory): Promise<LoadedKernel> {
  if (isBzImage(head)) return loadBzImage(kernel, head, memory);
  if (isElf(head)) return loadElf(kernel, head, memory);
  throw notAKernel(kernel.name, head);
}

interface Extent {
  readonly gpa: Gpa;
  readonly sizeBytes: number;
}

function writeCommandLine({ commandLine, kernel, memory }: KernelRequest, maxBytes: number): Extent {
  const bytes = new TextEncoder().encode(commandLine);
  const odd = /[^\t\x20-\x7e]/u.exec(commandLine);
  if (odd)
    throw new BootImageError(
      "command-line",
      kernel.name,
      `the kernel command line has the character ${JSON.stringify(odd[0])} at position ${odd.index}`,
      "Use printable ASCII in one line",
    );
  if (bytes.length > maxBytes)
    throw new BootImageError(
      "command-line",
      kernel.name,
      `the kernel command line has ${bytes.length} characters, and this kernel takes ${maxBytes}`,
      "Shorten it",
    );
  memory.write(COMMAND_LINE, bytes);
  memory.writeU8(gpa(COMMAND_LINE + bytes.length), 0);
  return { gpa: COMMAND_LINE, sizeBytes: bytes.length };
}

/** As high as the kernel takes it, so that it is out of the way of a kernel that unpacks itself. */
async function loadInitrd(initrd: FileSource, kernel: LoadedKernel, memory: GuestMemory): Promise<Extent | null> {
  if (initrd.sizeBytes === 0) return null;
  const limit = Math.min(kernel.initrdLimit, memory.regions[0]?.sizeBytes ?? 0);
  const start = Math.floor((limit - initrd.sizeBytes) / PAGE_BYTES) * PAGE_BYTES;
  if (start < kernel.end)
    throw new BootImageError(
      "initrd-too-large",
      initrd.name,
      `the initrd of ${Math.ceil(initrd.sizeBytes / MIB)} MiB does not fit in the ${Math.floor(Math.max(0, limit - kernel.end) / MIB)} MiB between the kernel and ${limit / MIB} MiB`,
      "Give the machine more memory or use a smaller initrd",
    );
  await readFully(initrd, memory.view(gpa(start), initrd.sizeBytes), 0);
  memory.markDirty(gpa(start), initrd.sizeBytes);
  return { gpa: gpa(start), sizeBytes: initrd.sizeBytes };
}

function writeBootStructures(
  { memory, rsdp }: KernelRequest,
  kernel: LoadedKernel,
  commandLine: Extent,
  initrd: Extent | null,
): EntryState {
  const e820 = e820Map(memory.regions);
  const gdt = encodeGdt(kernel.protocol);
  memory.write(GDT, gdt);
  memory.writeU64(IDT, 0);
  writeResetVector(memory);
  const common = {
    rip: kernel.entry,
    rsp: BOOT_STACK,
    gdt: { base: GDT, limit: gdt.length - 1 },
    idt: { base: IDT, limit: 0 },
  };
  if (kernel.protocol === "pvh") {
    writeStartInfo(memory, { commandLine: commandLine.gpa, initrd, rsdp, memoryMap: e820 });
    return { ...common, protocol: "pvh", rbx: PVH_START_INFO };
  }
  writeIdentityMap(memory);
  const lengthBytes = commandLine.sizeBytes;
  writeZeroPage(memory, {
    kernelHead: kernel.head,
    commandLine: { gpa: commandLine.gpa, lengthBytes },
    initrd,
    rsdp,
    e820,
  });
  return { ...common, protocol: "linux64", cr3: PML4, rsi: ZERO_PAGE };
}
