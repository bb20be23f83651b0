/**
 * Offsets of the setup header's fields, the same in a bzImage and in the zero page
 * (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
 */
export const SETUP_HEADER = {
  setupSects: 0x1f1,
  /** Size of the protected-mode code in units of 16 bytes. */
  sysSize: 0x1f4,
  bootFlag: 0x1fe,
  /** Second byte of the jump at 0x200: how far the header reaches beyond 0x202. */
  jumpDistance: 0x201,
  magic: 0x202,
  version: 0x206,
  typeOfLoader: 0x210,
  loadFlags: 0x211,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  commandLinePointer: 0x228,
  initrdAddrMax: 0x22c,
  kernelAlignment: 0x230,
  relocatable: 0x234,
  xloadFlags: 0x236,
  commandLineSize: 0x238,
  prefAddress: 0x258,
  initSize: 0x260,
} as const;

/** "HdrS" */
export const SETUP_MAGIC = 0x5372_6448;
/** The smallest part of a file that holds the whole header of protocol 2.12. */
export const SETUP_HEADER_BYTES = 0x268;
/** The zero page has room for the header up to here; e820 and EDD data follow. */
const HEADER_ROOM_END = 0x290;

/** Where the header of this kernel ends. */
export function setupHeaderEnd(kernelHead: Uint8Array): number {
  return Math.min(SETUP_HEADER.magic + (kernelHead[SETUP_HEADER.jumpDistance] ?? 0), HEADER_ROOM_END);
}
