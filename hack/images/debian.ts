import { cp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import { run } from "../lib/step.ts";
import { debianSources } from "./debian-mirror.ts";
import { buildInitramfs } from "./guest/initramfs.ts";
import { kernelPackages, unpackedKernel } from "./guest/kernel.ts";
import { type ImageRecipe, type ImageTools, suite } from "./image.ts";
import { keyOf } from "./key.ts";

/** What the system has besides Debian's minimal base; init, a console to log in, and what tests look at. */
const packages = [
  "ca-certificates",
  "dbus",
  "e2fsprogs",
  "iproute2",
  "iputils-ping",
  "kmod",
  "login",
  "procps",
  "systemd-sysv",
  "udev",
];

/** Size of the file system beyond what is in it, for the guest to use. */
const freeBytes = 256 * 2 ** 20;
const mebibyte = 2 ** 20;

/** A whole Debian with systemd on an ext4 disk, and Debian's kernel beside it. */
export const debian: ImageRecipe = {
  name: "guest-debian",
  about: "Debian with systemd on an ext4 disk",
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
  const overlay = join(import.meta.dirname, "debian-root");
  const key = await keyOf([{ value: [kernel, packages] }, { path: import.meta.filename }, { path: overlay }]);
  return cached({
    key: `guest-debian-disk-${key}`,
    title: "Installing Debian for guests",
    estimateSeconds: 60,
    build: async (directory, logFile) => {
      const root = join(directory, "root");
      await bootstrap(root, [...packages, kernel], logFile);
      await configure(root, overlay);
      await makeFileSystem(root, join(directory, "disk.img"));
      await rm(root, { recursive: true });
    },
  });
}

/** The package manager leaves out what a machine reads to people; licenses stay. */
const excluded = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*"];

async function bootstrap(root: string, include: readonly string[], logFile: string): Promise<void> {
  await run(
    [
      "mmdebstrap",
      "--variant=minbase",
      "--architectures=amd64",
      `--include=${include.join(",")}`,
      ...excluded.map((path) => `--dpkgopt=path-exclude=${path}`),
      "--dpkgopt=path-include=/usr/share/doc/*/copyright",
      "--dpkgopt=force-confold",
      // Debian's own initramfs would take long to make, and longer to start than ours.
      '--essential-hook=mkdir -p "$1/etc/initramfs-tools" && echo update_initramfs=no > "$1/etc/initramfs-tools/update-initramfs.conf"',
      suite,
      root,
      ...(await debianSources(suite)),
    ],
    {
      logFile,
      env: { SOURCE_DATE_EPOCH: "0" },
      advice: "check that the Debian mirror of this machine's apt can be reached",
    },
  );
}

/** Makes the bare system one that can be logged in to on its console. */
async function configure(root: string, overlay: string): Promise<void> {
  await cp(overlay, root, { recursive: true });
  await writeFile(join(root, "etc/hostname"), "debian\n");
  await writeFile(join(root, "etc/machine-id"), "");
  await rm(join(root, "etc/resolv.conf"), { force: true });
  await run(["chroot", root, "passwd", "--delete", "root"]);
}

async function makeFileSystem(root: string, disk: string): Promise<void> {
  const usedKiB = Number((await run(["du", "--summarize", "--block-size=1024", root])).split("\t")[0]);
  const sizeBytes = Math.ceil((usedKiB * 1024 + freeBytes) / mebibyte) * mebibyte;
  const uuid = "7e9f7a9e-0000-4000-8000-000000000001";
  await run([
    ...["mke2fs", "-q", "-t", "ext4", "-d", root, "-L", "root", "-U", uuid, "-E", `hash_seed=${uuid}`],
    ...["-m", "0", disk, `${sizeBytes / 1024}k`],
  ]);
}
