import { type Gpa, gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { E820Entry } from "./e820.ts";
import { ZERO_PAGE } from "./layout.ts";
import { SETUP_HEADER, setupHeaderEnd } from "./setup-header.ts";

/** Offsets in `struct boot_params` outside of the setup header (Documentation/arch/x86/zero-page.rst). */
const BOOT_PARAMS = { acpiRsdp: 0x070, e820Count: 0x1e8, e820: 0x2d0, sizeBytes: 0x1000 } as const;
const E820_ENTRY_BYTES = 20;
const E820_MAX_ENTRIES = 128;
/** "Undefined" boot loader: none has been assigned to us. */
const LOADER_TYPE = 0xff;

export interface ZeroPage {
  /** The start of a bzImage, whose setup header is copied; null for an ELF kernel, which has none. */
  readonly kernelHead: Uint8Array | null;
  readonly commandLine: { readonly gpa: Gpa; readonly lengthBytes: number };
  readonly initrd: { readonly gpa: Gpa; readonly sizeBytes: number } | null;
  readonly rsdp: Gpa;
  /** At most 128 entries. */
  readonly e820: readonly E820Entry[];
}

/** Writes `struct boot_params` for the Linux boot protocol. Throws RangeError where the map has too many entries. */
export function writeZeroPage(memory: GuestMemory, page: ZeroPage): void {
  if (page.e820.length > E820_MAX_ENTRIES) throw new RangeError(`${page.e820.length} entries in the e820 map`);
  const at = (offset: number) => gpa(ZERO_PAGE + offset);
  memory.fill(ZERO_PAGE, BOOT_PARAMS.sizeBytes, 0);
  const start = SETUP_HEADER.setupSects;
  if (page.kernelHead) memory.write(at(start), page.kernelHead.subarray(start, setupHeaderEnd(page.kernelHead)));
  else {
    memory.writeU16(at(SETUP_HEADER.bootFlag), 0xaa55);
    memory.write(at(SETUP_HEADER.magic), new TextEncoder().encode("HdrS"));
    memory.writeU16(at(SETUP_HEADER.version), 0x20c);
    memory.writeU8(at(SETUP_HEADER.loadFlags), 1);
    memory.writeU32(at(SETUP_HEADER.kernelAlignment), 0x100_0000);
  }
  memory.writeU8(at(SETUP_HEADER.typeOfLoader), LOADER_TYPE);
  memory.writeU32(at(SETUP_HEADER.commandLinePointer), page.commandLine.gpa);
  memory.writeU32(at(SETUP_HEADER.commandLineSize), page.commandLine.lengthBytes);
  memory.writeU32(at(SETUP_HEADER.ramdiskImage), page.initrd?.gpa ?? 0);
  memory.writeU32(at(SETUP_HEADER.ramdiskSize), page.initrd?.sizeBytes ?? 0);
  memory.writeU64(at(BOOT_PARAMS.acpiRsdp), page.rsdp);
  memory.writeU8(at(BOOT_PARAMS.e820Count), page.e820.length);
  page.e820.forEach((entry, index) => {
    const offset = BOOT_PARAMS.e820 + index * E820_ENTRY_BYTES;
    memory.writeU64(at(offset), entry.start);
    memory.writeU64(at(offset + 8), entry.sizeBytes);
    memory.writeU32(at(offset + 16), entry.type);
  });
}
