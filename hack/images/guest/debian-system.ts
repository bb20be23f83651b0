import { cp, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../lib/step.ts";
import { debianSources } from "../debian-mirror.ts";
import { suite } from "../image.ts";

/** What the system has besides Debian's minimal base; init, a console to log in, and what tests look at. */
export const basePackages = [
  "ca-certificates",
  "dbus",
  "e2fsprogs",
  "iproute2",
  "iputils-ping",
  "kmod",
  "login",
  "procps",
  "systemd-resolved",
  "systemd-sysv",
  "udev",
];

/** Size of the file system beyond what is in it, for the guest to use. */
const freeBytes = 256 * 2 ** 20;
const mebibyte = 2 ** 20;

/** The package manager leaves out what a machine reads to people; licenses stay. */
const excluded = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*"];

/** Installs Debian with the packages `include` into the directory `root`, without an initramfs of its own. */
export async function bootstrap(root: string, include: readonly string[], logFile: string): Promise<void> {
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
export async function configure(root: string, overlays: readonly string[]): Promise<void> {
  for (const overlay of overlays) await cp(overlay, root, { recursive: true });
  await writeFile(join(root, "etc/hostname"), "debian\n");
  await writeFile(join(root, "etc/machine-id"), "");
  await rm(join(root, "etc/resolv.conf"), { force: true });
  await symlink("../run/systemd/resolve/stub-resolv.conf", join(root, "etc/resolv.conf"));
  await run(["chroot", root, "systemctl", "enable", "systemd-networkd.service"]);
  // Nothing of the system waits for a network that may not be there.
  await run(["chroot", root, "systemctl", "disable", "systemd-networkd-wait-online.service"]);
  await run(["chroot", root, "passwd", "--delete", "root"]);
}

/** Writes an ext4 file system with what is in `root`, and room for more, to `file`. */
export async function makeFileSystem(root: string, file: string, uuid: string): Promise<void> {
  const usedKiB = Number((await run(["du", "--summarize", "--block-size=1024", root])).split("\t")[0]);
  const sizeBytes = Math.ceil((usedKiB * 1024 + freeBytes) / mebibyte) * mebibyte;
  await run([
    ...["mke2fs", "-q", "-t", "ext4", "-d", root, "-L", "root", "-U", uuid, "-E", `hash_seed=${uuid}`],
    ...["-m", "0", file, `${sizeBytes / 1024}k`],
  ]);
}
