import { rm } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import { run } from "../lib/step.ts";
import { basePackages, bootstrap, configure, makeFileSystem } from "./guest/debian-system.ts";
import { buildInitramfs } from "./guest/initramfs.ts";
import { kernelPackages, unpackedKernel } from "./guest/kernel.ts";
import type { ImageRecipe, ImageTools } from "./image.ts";
import { keyOf } from "./key.ts";

const rootUuid = "7e9f7a9e-0000-4000-8000-000000000001";
/** What tests and benchmarks run in it. */
const toolPackages = ["fio", "iperf3", "nginx"];
/** Of these: they are started by whoever wants them. */
const toolServices = ["nginx.service"];

/** A whole Debian with systemd on an ext4 disk, and Debian's kernel beside it. */
export const debian: ImageRecipe = {
  name: "guest-debian",
  about: "Debian with systemd on an ext4 disk, and fio, iperf3 and nginx",
  inputs: async (tools) => [{ value: await kernelPackages(tools) }],
  make: async (tools) => {
    const kernel = await unpackedKernel(tools);
    return {
      // A disk is mostly zeros and text.
      compression: "zstd",
      layers: [
        {
          files: [
            { path: "boot/vmlinuz", source: join(kernel, "boot/vmlinuz"), mode: 0o644 },
            { path: "boot/initrd.img", content: await buildInitramfs(kernel), mode: 0o644 },
          ],
        },
        { files: [{ path: "disk/disk.img", source: join(await rootDisk(tools), "disk.img"), mode: 0o644 }] },
      ],
    };
  },
};

async function rootDisk(tools: ImageTools): Promise<string> {
  const kernel = (await kernelPackages(tools))[0]?.name ?? "";
  const system = join(import.meta.dirname, "guest/debian-system.ts");
  const overlay = join(import.meta.dirname, "debian-root");
  const key = await keyOf([{ value: kernel }, { path: system }, { path: import.meta.filename }, { path: overlay }]);
  return cached({
    key: `guest-debian-disk-${key}`,
    title: "Installing Debian for guests",
    estimateSeconds: 60,
    build: async (directory, logFile) => {
      const root = join(directory, "root");
      await bootstrap(root, [...basePackages, ...toolPackages, kernel], logFile);
      await configure(root, [overlay]);
      await run(["chroot", root, "systemctl", "disable", ...toolServices]);
      await makeFileSystem(root, join(directory, "disk.img"), rootUuid);
      await rm(root, { recursive: true });
    },
  });
}
