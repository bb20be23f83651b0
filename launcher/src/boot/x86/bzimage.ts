import { gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { BootImageError } from "../boot-image-error.ts";
import { type FileSource, readFully } from "../file-source.ts";
import { COMMAND_LINE_MAX_BYTES, HIGH_RAM } from "./layout.ts";
import type { LoadedKernel } from "./loaded-kernel.ts";
import { SETUP_HEADER, SETUP_HEADER_BYTES, SETUP_MAGIC } from "./setup-header.ts";

/** Protocol 2.12 brought xloadflags, and with it the 64-bit entry point. */
const OLDEST_VERSION = 0x20c;
const LOADED_HIGH = 0x01;
const XLF_KERNEL_64 = 0x01;
/** The 64-bit entry point, from the start of the protected-mode code. */
const ENTRY64_OFFSET = 0x200;
const SECTOR_BYTES = 512;
const DEFAULT_SETUP_SECTS = 4;
const SYS_SIZE_UNIT = 16;
const MIB = 2 ** 20;

/** True for a file that starts as kernels with the Linux/x86 boot protocol do, compressed or not, of any version. */
export function isBzImage(head: Uint8Array): boolean {
  if (head.length < SETUP_HEADER.version + 2) return false;
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  return view.getUint32(SETUP_HEADER.magic, true) === SETUP_MAGIC;
}

/**
 * Loads a bzImage for its 64-bit entry point: the kernel unpacks itself. A guest pays for that at each start, about
 * half of the time to /init where guest code is emulated; an uncompressed ELF vmlinux saves it, and takes four times the
 * disk and page cache (58 MB instead of 14 for Debian's 6.12).
 */
export async function loadBzImage(kernel: FileSource, head: Uint8Array, memory: GuestMemory): Promise<LoadedKernel> {
  const header = readHeader(kernel, head);
  const start = placeKernel(kernel.name, header, memory.regions[0]?.sizeBytes ?? 0);
  await readFully(kernel, memory.view(gpa(start), header.payloadBytes), header.payloadOffset);
  memory.markDirty(gpa(start), header.payloadBytes);
  return {
    protocol: "linux64",
    entry: gpa(start + ENTRY64_OFFSET),
    end: start + Math.max(header.initBytes, header.payloadBytes),
    head,
    initrdLimit: header.initrdAddrMax + 1,
    commandLineMaxBytes: Math.min(header.commandLineBytes, COMMAND_LINE_MAX_BYTES - 1),
  };
}

interface BzImageHeader {
  readonly payloadOffset: number;
  readonly payloadBytes: number;
  readonly relocatable: boolean;
  readonly alignment: number;
  readonly prefAddress: number;
  /** RAM that the kernel needs from its start while it unpacks. */
  readonly initBytes: number;
  readonly initrdAddrMax: number;
  readonly commandLineBytes: number;
}

function readHeader(kernel: FileSource, head: Uint8Array): BzImageHeader {
  const file = kernel.name;
  if (head.length < SETUP_HEADER_BYTES) throw truncated(kernel, SETUP_HEADER_BYTES);
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const version = view.getUint16(SETUP_HEADER.version, true);
  const versionText = `${version >>> 8}.${String(version & 0xff).padStart(2, "0")}`;
  if (version < OLDEST_VERSION)
    throw unsupported(file, `this kernel speaks version ${versionText} of the Linux boot protocol, and 2.12 is needed`);
  if (!(view.getUint8(SETUP_HEADER.loadFlags) & LOADED_HIGH))
    throw unsupported(file, "this is a zImage, which loads below 1 MiB");
  if (!(view.getUint16(SETUP_HEADER.xloadFlags, true) & XLF_KERNEL_64))
    throw unsupported(file, "this kernel has no 64-bit entry point (it is a 32-bit kernel)");

  const payloadOffset = ((view.getUint8(SETUP_HEADER.setupSects) || DEFAULT_SETUP_SECTS) + 1) * SECTOR_BYTES;
  const payloadBytes = view.getUint32(SETUP_HEADER.sysSize, true) * SYS_SIZE_UNIT;
  if (payloadBytes <= ENTRY64_OFFSET) throw malformed(file, `${payloadBytes} bytes of kernel code`);
  if (kernel.sizeBytes < payloadOffset + payloadBytes) throw truncated(kernel, payloadOffset + payloadBytes);
  const alignment = view.getUint32(SETUP_HEADER.kernelAlignment, true);
  if (alignment < 4096 || alignment > 2 ** 30 || (alignment & (alignment - 1)) !== 0)
    throw malformed(file, `a kernel alignment of ${alignment} bytes`);
  return {
    payloadOffset,
    payloadBytes,
    relocatable: view.getUint8(SETUP_HEADER.relocatable) !== 0,
    alignment,
    prefAddress: Number(view.getBigUint64(SETUP_HEADER.prefAddress, true)),
    initBytes: view.getUint32(SETUP_HEADER.initSize, true),
    initrdAddrMax: view.getUint32(SETUP_HEADER.initrdAddrMax, true),
    commandLineBytes: view.getUint32(SETUP_HEADER.commandLineSize, true),
  };
}

/** The preferred address where RAM reaches that far, else the lowest that the kernel can be moved to. */
function placeKernel(file: string, header: BzImageHeader, lowRamBytes: number): number {
  const sizeBytes = Math.max(header.initBytes, header.payloadBytes);
  const candidates = [header.prefAddress];
  if (header.relocatable) candidates.push(Math.ceil(HIGH_RAM / header.alignment) * header.alignment);
  for (const start of candidates)
    if (start >= HIGH_RAM && start + sizeBytes <= lowRamBytes && start % 4096 === 0) return start;
  const neededBytes = Math.min(...candidates.filter((start) => start >= HIGH_RAM)) + sizeBytes;
  if (!Number.isFinite(neededBytes)) throw malformed(file, `a load address of 0x${header.prefAddress.toString(16)}`);
  throw new BootImageError(
    "kernel-too-large",
    file,
    `the kernel needs ${Math.ceil(neededBytes / MIB)} MiB of memory to start, and ${lowRamBytes / MIB} MiB are below 3 GiB`,
    "Give the machine more memory or use a smaller kernel",
  );
}

function truncated(kernel: FileSource, neededBytes: number): BootImageError {
  return new BootImageError(
    "truncated",
    kernel.name,
    `this bzImage is cut off: ${kernel.sizeBytes} of at least ${neededBytes} bytes are there`,
    "Copy it again, whole",
  );
}

function unsupported(file: string, found: string): BootImageError {
  return new BootImageError("unsupported", file, found, "Use a 64-bit x86 kernel of Linux 3.8 or newer");
}

function malformed(file: string, found: string): BootImageError {
  return new BootImageError("malformed", file, `the bzImage header claims ${found}`, "Use an undamaged kernel");
}
