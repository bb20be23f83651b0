import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import { firmwareDirectory, firmwareFile } from "../images/firmware.ts";
import { keyOf } from "../images/key.ts";
import { run } from "../lib/step.ts";

/** LzmaCustomDecompressGuid (MdeModulePkg.dec) as it stands in a file. */
const LZMA_SECTION = Buffer.from("98584eee143959429d6edc7bd79403cf", "hex");
/** EFI_COMMON_SECTION_HEADER with a 24-bit size, before the GUID; offset of the data and attributes follow it. */
const SECTION_HEADER_BYTES = 4;
const SECTION_PREFIX_BYTES = SECTION_HEADER_BYTES + LZMA_SECTION.length + 4;
/** In an LZMA file: where the unpacked size stands. */
const LZMA_SIZE_OFFSET = 5;

const MOV_CR8_RAX = Buffer.from("440f22c0", "hex");
const NOP_4 = Buffer.from("0f1f4000", "hex");

/**
 * Directory with the firmware for guests of emulated nodes. EDK2 writes CR8 at the end of each interrupt. In a guest of
 * SVM, QEMU's TCG then raises a virtual interrupt without its lock, and aborts the node (target/i386/tcg, case 8 of
 * helper_write_crN, up to QEMU 10.1). The firmware only writes back what it read: here it does not.
 */
export async function emulatedFirmwareDirectory(): Promise<string> {
  const original = await firmwareDirectory();
  return cached({
    key: `firmware-emulated-${await keyOf([{ value: original }, { path: import.meta.filename }])}`,
    title: "Preparing UEFI firmware for emulated nodes",
    estimateSeconds: 15,
    build: async (directory) => {
      const firmware = await readFile(join(original, firmwareFile));
      await writeFile(join(directory, firmwareFile), await withoutCr8Writes(firmware, join(directory, ".unpacked")));
    },
  });
}

async function withoutCr8Writes(firmware: Buffer, scratch: string): Promise<Buffer> {
  const start = firmware.indexOf(LZMA_SECTION) - SECTION_HEADER_BYTES;
  if (start < 0) throw new Error("the firmware has no compressed section");
  const packed = firmware.subarray(start + SECTION_PREFIX_BYTES, start + firmware.readUIntLE(start, 3));
  const unpacked = await xz(["--decompress"], packed, scratch);
  if (replaceAll(unpacked, MOV_CR8_RAX, NOP_4) === 0)
    throw new Error("the firmware does not write CR8: use it as it is");
  replaceAll(firmware, MOV_CR8_RAX, NOP_4);
  const repacked = await xz(["-9", "--extreme"], unpacked, scratch);
  if (repacked.length > packed.length) throw new Error("the firmware does not fit into its section any more");
  // xz leaves the size open; the firmware wants to know it.
  repacked.writeBigUInt64LE(BigInt(unpacked.length), LZMA_SIZE_OFFSET);
  packed.fill(0);
  repacked.copy(packed);
  return firmware;
}

async function xz(options: readonly string[], input: Buffer, scratch: string): Promise<Buffer> {
  await writeFile(scratch, input);
  try {
    await run(["sh", "-c", `xz --format=lzma ${options.join(" ")} <"$0" >"$0.out"`, scratch]);
    return await readFile(`${scratch}.out`);
  } finally {
    await rm(scratch);
    await rm(`${scratch}.out`, { force: true });
  }
}

/** Replaces each occurrence in place; answers how many there were. */
function replaceAll(bytes: Buffer, pattern: Buffer, by: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(pattern); at >= 0; at = bytes.indexOf(pattern, at + pattern.length)) {
    by.copy(bytes, at);
    count++;
  }
  return count;
}
