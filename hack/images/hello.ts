import { join } from "node:path";
import { buildInitramfs } from "./guest/initramfs.ts";
import { kernelPackages, unpackedKernel } from "./guest/kernel.ts";
import type { ImageRecipe } from "./image.ts";

/** Debian's kernel with a small initramfs: a guest without a disk that offers a shell. */
export const hello: ImageRecipe = {
  name: "guest-hello",
  about: "Debian's kernel and a shell in an initramfs",
  inputs: async (tools) => [{ value: await kernelPackages(tools) }],
  make: async (tools) => {
    const packages = await unpackedKernel(tools);
    return {
      layers: [
        {
          files: [
            { path: "boot/vmlinuz", source: join(packages, "boot/vmlinuz"), mode: 0o644 },
            { path: "boot/initrd.img", content: await buildInitramfs(packages), mode: 0o644 },
          ],
        },
      ],
    };
  },
};
