import { rename } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../../dev-cluster/tools/cache.ts";
import { run } from "../../lib/step.ts";
import type { DebianPackage } from "../debian-packages.ts";
import type { ImageTools } from "../image.ts";
import { keyOf } from "../key.ts";

const kernelMetapackage = "linux-image-cloud-amd64";

/** Debian's kernel for virtual machines, and busybox for the initramfs. */
export async function kernelPackages(tools: ImageTools): Promise<DebianPackage[]> {
  const [meta] = await tools.debian.resolve([kernelMetapackage]);
  const kernel = meta?.depends.find((name) => name.startsWith("linux-image-"));
  if (!kernel) throw new Error(`${kernelMetapackage} depends on no kernel`);
  return tools.debian.resolve([kernel, "busybox-static"]);
}

/** Directory with the packages unpacked, modules uncompressed, and the kernel as /boot/vmlinuz. */
export async function unpackedKernel(tools: ImageTools): Promise<string> {
  const packages = await kernelPackages(tools);
  return cached({
    key: `guest-kernel-${await keyOf([{ value: packages }])}`,
    title: "Unpacking Debian's kernel for guests",
    estimateSeconds: 5,
    build: async (directory) => {
      await tools.debian.unpack(packages, directory);
      await run(["find", directory, "-name", "*.ko.xz", "-exec", "xz", "--decompress", "{}", "+"]);
      const version = packages[0]?.name.replace("linux-image-", "");
      await rename(join(directory, `boot/vmlinuz-${version}`), join(directory, "boot/vmlinuz"));
    },
  });
}
