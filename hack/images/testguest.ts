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
    ],
  }),
};

/** The same guest behind each boot protocol, one file each. */
function kernels(tools: ImageTools): string {
  const directory = join(tools.repository, "dist/testguest");
  if (!existsSync(join(directory, "testguest"))) throw new InputMissing("dist/testguest", "hack/build-testguest");
  return directory;
}

/** Every 64-bit little-endian word says at which byte it stands, so that any misplaced read shows. */
export function patternDisk(sizeBytes: number): Buffer {
  const disk = Buffer.alloc(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += 8) disk.writeBigUInt64LE(BigInt(offset), offset);
  return disk;
}
