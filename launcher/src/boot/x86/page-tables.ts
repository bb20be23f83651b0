import { gpa } from "../../memory/gpa.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { IDENTITY_MAPPED_BYTES, PAGE_DIRECTORIES, PDPT, PML4 } from "./layout.ts";

/** Present, writable. */
const TABLE = 0x03;
/** Present, writable, accessed, dirty, maps 2 MiB. */
const LARGE_PAGE = 0xe3;
const LARGE_PAGE_BYTES = 2 * 2 ** 20;
const TABLE_BYTES = 4096;

/** Maps the first 4 GiB one to one (SDM volume 3, 4.5); needs no CPU feature beyond long mode. */
export function writeIdentityMap(memory: GuestMemory): void {
  const pageCount = IDENTITY_MAPPED_BYTES / LARGE_PAGE_BYTES;
  const directoryCount = pageCount / 512;
  memory.fill(PML4, TABLE_BYTES, 0);
  memory.fill(PDPT, TABLE_BYTES, 0);
  memory.writeU64(PML4, PDPT + TABLE);
  for (let directory = 0; directory < directoryCount; directory++)
    memory.writeU64(gpa(PDPT + directory * 8), PAGE_DIRECTORIES + directory * TABLE_BYTES + TABLE);
  for (let page = 0; page < pageCount; page++)
    memory.writeU64(gpa(PAGE_DIRECTORIES + page * 8), page * LARGE_PAGE_BYTES + LARGE_PAGE);
}
