import { existsSync } from "node:fs";
import { join } from "node:path";
import { type ImageRecipe, type ImageTools, InputMissing } from "./image.ts";

const diskBytes = 2 ** 20;

/** The freestanding guest of the tests, and a disk whose every byte is known. */
export const testguest: ImageRecipe = {
  name: "testguest",
  about: "the test guest, up in milliseconds",
  inputs: async (tools) => [{ path: kernels(tools) }],
  make: async (tools) => ({
    layers: [
      { dir: kernels(tools), at: "boot" },
      { files: [{ path: "disk/disk.img", content: patternDisk(diskBytes), mode: 0o644 }] },
      { files: notKernels().map(([name, content]) => ({ path: `not-kernels/${name}`, content, mode: 0o644 })) },
    ],
  }),
};

/** The same guest behind each boot protocol, one file each. */
function kernels(tools: ImageTools): string {
  const directory = join(tools.repository, "dist/testguest");
  if (!existsSync(join(directory, "testguest"))) throw new InputMissing("dist/testguest", "hack/build-testguest");
  return directory;
}

/** Files that someone might take for a kernel, to see what the launcher says of them. */
export function notKernels(): [name: string, content: Buffer][] {
  const bzImage = Buffer.alloc(4096);
  bzImage[0x1f1] = 4; // setup_sects
  bzImage.writeUInt32LE(0x10000, 0x1f4); // syssize: 1 MiB that is not there
  bzImage.writeUInt16LE(0xaa55, 0x1fe);
  bzImage.write("HdrS", 0x202);
  bzImage.writeUInt16LE(0x020f, 0x206);
  bzImage[0x211] = 1; // LOADED_HIGH
  bzImage.writeUInt32LE(0x100000, 0x214);
  const elf = Buffer.alloc(64);
  elf.write("\x7fELF\x02\x01\x01", "latin1");
  elf.writeUInt16LE(2, 16); // ET_EXEC
  elf.writeUInt16LE(183, 18); // EM_AARCH64
  elf.writeUInt32LE(1, 20);
  return [
    ["text", Buffer.from("This is no kernel.\n")],
    ["truncated-bzimage", bzImage],
    ["elf-aarch64", elf],
  ];
}

/** Every 64-bit little-endian word says at which byte it stands, so that any misplaced read shows. */
export function patternDisk(sizeBytes: number): Buffer {
  const disk = Buffer.alloc(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += 8) disk.writeBigUInt64LE(BigInt(offset), offset);
  return disk;
}
