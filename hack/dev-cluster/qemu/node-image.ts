import { createHash } from "node:crypto";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { debianSources } from "../../images/debian-mirror.ts";
import { parsePackageList } from "../../lib/package-list.ts";
import { run } from "../../lib/step.ts";
import { type Cached, cached, isCached } from "../tools/cache.ts";
import { writeNodeInitramfs } from "./initramfs.ts";

const suite = "trixie";

export interface NodeImageOptions {
  /** Debian packages beside those of packages.txt. */
  readonly extraPackages?: readonly string[];
  /** Files and directories of this machine to put into the image: absolute path on the node -> path here. */
  readonly content?: Readonly<Record<string, string>>;
  /** Stands for `content` in the name of the cached image: other content, other key. */
  readonly contentKey?: string;
  /** Free space beside what the image holds. The file is sparse. Default 8192. */
  readonly freeMiB?: number;
}

/** What QEMU boots; the disk is a base for overlays and never written. */
export interface NodeImage {
  readonly disk: string;
  readonly kernel: string;
  readonly initramfs: string;
}

/** Builds, or finds in the cache, the root disk of a node VM: Debian, its cloud kernel, and what the caller adds. */
export async function buildNodeImage(options: NodeImageOptions = {}): Promise<NodeImage> {
  const rootfs = await debianRootfs(options.extraPackages ?? []);
  const initramfsSources = await Promise.all(
    ["initramfs-init", "initramfs.ts", "node-image.ts"].map((file) => readFile(join(import.meta.dirname, file))),
  );
  const freeMiB = options.freeMiB ?? 8192;
  const key = hashOf([rootfs.key, options.contentKey, options.content, freeMiB, ...initramfsSources.map(String)]);
  const image: Cached = {
    key: `node-image-${key}`,
    title: "Building the disk of a node VM",
    estimateSeconds: 20,
    build: async (into, logFile) => assemble(into, logFile, await cached(rootfs), options.content ?? {}, freeMiB),
  };
  if (!isCached(image)) await cached(rootfs);
  const dir = await cached(image);
  return { disk: join(dir, "disk.img"), kernel: join(dir, "vmlinuz"), initramfs: join(dir, "initramfs") };
}

async function debianRootfs(extraPackages: readonly string[]): Promise<Cached> {
  const list = parsePackageList(await readFile(join(import.meta.dirname, "packages.txt"), "utf8"));
  const packages = [...new Set([...list, ...extraPackages])].sort();
  return {
    key: `node-rootfs-${hashOf([suite, packages])}`,
    title: `Fetching Debian ${suite} for node VMs`,
    estimateSeconds: 40 + extraPackages.length * 10,
    async build(into, logFile) {
      const excluded = ["doc", "man", "locale", "info"].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`);
      await run(
        [
          ...["mmdebstrap", "--mode=root", "--variant=essential", "--format=tar"],
          ...[`--include=${packages.join(",")}`, '--aptopt=Acquire::Languages "none"', ...excluded],
          ...[suite, join(into, "root.tar"), ...(await debianSources(suite))],
        ],
        // We make our own initramfs; Debian's would take longer than all the rest.
        { logFile, env: { INITRD: "No" }, advice: "check that the Debian mirror of this machine can be reached" },
      );
    },
  };
}

async function assemble(
  into: string,
  logFile: string,
  rootfsDir: string,
  content: Readonly<Record<string, string>>,
  freeMiB: number,
): Promise<void> {
  const root = join(into, "root");
  await mkdir(root);
  await run(["tar", "--extract", "--file", join(rootfsDir, "root.tar"), "--directory", root, "--numeric-owner"]);
  for (const [path, source] of Object.entries(content)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await cp(source, join(root, path), { recursive: true, verbatimSymlinks: true });
  }
  await cp(join(root, await kernelPath(root)), join(into, "vmlinuz"));
  await writeFile(join(into, "initramfs"), await writeNodeInitramfs(root));
  const usedMiB = Number((await run(["du", "--summarize", "--block-size=1M", root])).split("\t")[0]);
  const disk = join(into, "disk.img");
  const features = ["-O", "^metadata_csum_seed", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-m", "0"];
  await run(["mke2fs", "-q", "-t", "ext4", ...features, "-d", root, disk, `${usedMiB + freeMiB}M`], {
    logFile,
    advice: "check that the disk is not full",
  });
  await rm(root, { recursive: true });
}

async function kernelPath(root: string): Promise<string> {
  const names = await run(["sh", "-c", 'cd "$1" && ls boot/vmlinuz-*', "sh", root]);
  return names.trim().split("\n").at(-1) ?? "";
}

function hashOf(values: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(values)).digest("hex").slice(0, 12);
}
