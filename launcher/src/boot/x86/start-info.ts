import { type Gpa, gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { E820Entry } from "./e820.ts";
import { PVH_MEMORY_MAP, PVH_MODULES, PVH_START_INFO } from "./layout.ts";

/** XEN_HVM_START_MAGIC_VALUE; the structures are those of xen/include/public/arch-x86/hvm/start_info.h. */
const START_MAGIC = 0x336e_c578;
const START_INFO_BYTES = 56;
const MODULE_ENTRY_BYTES = 32;
const MEMORY_MAP_ENTRY_BYTES = 24;

export interface StartInfo {
  readonly commandLine: Gpa;
  readonly initrd: { readonly gpa: Gpa; readonly sizeBytes: number } | null;
  readonly rsdp: Gpa;
  readonly memoryMap: readonly E820Entry[];
}

/** Writes `hvm_start_info` version 1 with its module list and memory map. */
export function writeStartInfo(memory: GuestMemory, info: StartInfo): void {
  const at = (offset: number) => gpa(PVH_START_INFO + offset);
  memory.fill(PVH_START_INFO, START_INFO_BYTES, 0);
  memory.writeU32(at(0), START_MAGIC);
  memory.writeU32(at(4), 1);
  if (info.initrd) {
    memory.fill(PVH_MODULES, MODULE_ENTRY_BYTES, 0);
    memory.writeU64(PVH_MODULES, info.initrd.gpa);
    memory.writeU64(gpa(PVH_MODULES + 8), info.initrd.sizeBytes);
    memory.writeU32(at(12), 1);
    memory.writeU64(at(16), PVH_MODULES);
  }
  memory.writeU64(at(24), info.commandLine);
  memory.writeU64(at(32), info.rsdp);
  memory.writeU64(at(40), PVH_MEMORY_MAP);
  memory.writeU32(at(48), info.memoryMap.length);
  info.memoryMap.forEach((entry, index) => {
    const start = PVH_MEMORY_MAP + index * MEMORY_MAP_ENTRY_BYTES;
    memory.writeU64(gpa(start), entry.start);
    memory.writeU64(gpa(start + 8), entry.sizeBytes);
    memory.writeU32(gpa(start + 16), entry.type);
    memory.writeU32(gpa(start + 20), 0);
  });
}
