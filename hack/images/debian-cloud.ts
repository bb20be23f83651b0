import { cp, mkdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import { run } from "../lib/step.ts";
import type { DebianPackage } from "./debian-packages.ts";
import { basePackages, bootstrap, configure, makeFileSystem } from "./guest/debian-system.ts";
import { buildInitramfs } from "./guest/initramfs.ts";
import { kernelPackages, unpackedKernel } from "./guest/kernel.ts";
import type { ImageRecipe, ImageTools } from "./image.ts";
import { keyOf } from "./key.ts";

/** What a cloud image has besides the base. */
const cloudPackages = ["cloud-guest-utils", "cloud-init", "openssh-server"];
const bootLoaderPackage = "grub-efi-amd64-unsigned";
/** In that package: GRUB in one file, which reads EFI/debian/grub.cfg on the partition that it came from. */
const bootLoader = "usr/lib/grub/x86_64-efi/monolithic/grubx64.efi";

/** The first moment that FAT knows, for files whose time should not be now. */
const fatEpoch = { SOURCE_DATE_EPOCH: "315532800", TZ: "UTC" };

const MIB = 2 ** 20;
const rootUuid = "7e9f7a9e-0000-4000-8000-000000000002";
const rootFile = "root.ext4";
const espFile = "esp.fat";

/**
 * A disk with the layout of Debian's own cloud images, numbers of partitions included: GPT, boot code for PCs without
 * UEFI (empty here), EFI system partition, root.
 */
const partitions = {
  bios: { number: 14, startMiB: 1, sizeMiB: 3, type: "21686148-6449-6E6F-744E-656564454649" },
  esp: { number: 15, startMiB: 4, sizeMiB: 124, type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" },
  root: { number: 1, startMiB: 128, type: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709" },
} as const;
/** The second copy of the partition table. */
const tailMiB = 1;

/** A disk that boots by itself under UEFI, with cloud-init. */
export const debianCloud: ImageRecipe = {
  name: "guest-debian-cloud",
  about: "Debian as a cloud image: GPT, UEFI, GRUB, cloud-init",
  inputs: async (tools) => [{ value: await packagesOf(tools) }],
  make: async (tools) => ({
    compression: "zstd",
    layers: [{ files: [{ path: "disk/disk.img", source: join(await disk(tools), "disk.img"), mode: 0o644 }] }],
  }),
};

async function packagesOf(tools: ImageTools): Promise<DebianPackage[]> {
  return [...(await kernelPackages(tools)), ...(await tools.debian.resolve([bootLoaderPackage, ...cloudPackages]))];
}

async function disk(tools: ImageTools): Promise<string> {
  const { dirname: here, filename } = import.meta;
  const overlays = ["debian-root", "debian-cloud-root"].map((name) => join(here, name));
  const code = ["guest/debian-system.ts", "guest/initramfs.ts", "guest/init", "guest/dhcp-event"].map((name) =>
    join(here, name),
  );
  const paths = [filename, ...code, ...overlays].map((path) => ({ path }));
  const key = await keyOf([{ value: await packagesOf(tools) }, ...paths]);
  return cached({
    key: `guest-debian-cloud-disk-${key}`,
    title: "Installing Debian as a cloud image",
    estimateSeconds: 120,
    build: async (directory, logFile) => {
      const kernel = await unpackedKernel(tools);
      const root = join(directory, "root");
      const kernelName = (await kernelPackages(tools))[0]?.name ?? "";
      await bootstrap(root, [...basePackages, ...cloudPackages, kernelName], logFile);
      await configure(root, overlays);
      await cp(join(kernel, "boot/vmlinuz"), join(root, "boot/vmlinuz"));
      await writeFile(join(root, "boot/initrd.img"), await buildInitramfs(kernel));
      await makeFileSystem(root, join(directory, rootFile), rootUuid);
      await rm(root, { recursive: true });
      await makeSystemPartition(tools, directory);
      await assemble(directory);
    },
  });
}

/** The EFI system partition, with GRUB where firmware looks when it knows of no other boot entry. */
async function makeSystemPartition(tools: ImageTools, directory: string): Promise<void> {
  const scratch = join(directory, ".packages");
  await mkdir(scratch);
  await tools.debian.unpack(await tools.debian.resolve([bootLoaderPackage]), scratch);
  const image = join(directory, espFile);
  await writeFile(image, "");
  await truncate(image, partitions.esp.sizeMiB * MIB);
  const mtools = (...argv: string[]) => run(argv, { env: fatEpoch });
  await mtools("mformat", "-i", image, "-F", "-N", "7e9f7a9e", "-v", "ESP", "::");
  const put = async (path: string, content: Buffer | string) => {
    const file = join(scratch, "file");
    await writeFile(file, content);
    await mtools("mcopy", "-i", image, file, `::${path}`);
  };
  for (const path of ["EFI", "EFI/BOOT", "EFI/debian"]) await mtools("mmd", "-i", image, `::${path}`);
  await put("EFI/BOOT/BOOTX64.EFI", await readFile(join(scratch, bootLoader)));
  const lines = [`search.fs_uuid ${rootUuid} root`, "set prefix=($root)/boot/grub", "configfile $prefix/grub.cfg", ""];
  await put("EFI/debian/grub.cfg", lines.join("\n"));
  await rm(scratch, { recursive: true });
}

/** Puts the file systems into their partitions. */
async function assemble(directory: string): Promise<void> {
  const target = join(directory, "disk.img");
  const rootMiB = Math.ceil((await stat(join(directory, rootFile))).size / MIB);
  await writeFile(target, "");
  await truncate(target, (partitions.root.startMiB + rootMiB + tailMiB) * MIB);
  const { bios, esp, root } = partitions;
  const table = [bios, esp, { ...root, sizeMiB: rootMiB }].map(
    ({ number, startMiB, sizeMiB, type }) => `${number}: start=${startMiB}MiB, size=${sizeMiB}MiB, type=${type}`,
  );
  await run(["sfdisk", "--quiet", target], {
    input: ["label: gpt", "label-id: 7e9f7a9e-0000-4000-8000-000000000003", ...table, ""].join("\n"),
  });
  for (const [file, startMiB] of [
    [espFile, esp.startMiB],
    [rootFile, root.startMiB],
  ] as const) {
    const source = join(directory, file);
    const into = ["conv=notrunc,sparse", "bs=1M", `seek=${startMiB}`, "status=none"];
    await run(["dd", `if=${source}`, `of=${target}`, ...into]);
    await rm(source);
  }
}
