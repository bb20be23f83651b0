import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type CpioEntry, writeCpio } from "../../images/guest/cpio.ts";
import { run } from "../../lib/step.ts";

/** What the root disk and the network card of a node VM need; ext4 and virtio-pci are part of Debian's cloud kernel. */
const earlyModules = ["virtio_blk", "virtio_net"];

export interface OverlayFile {
  /** Absolute path on the node. */
  readonly path: string;
  readonly content: string | Uint8Array;
  readonly mode?: number;
}

/** The small initramfs of a node image: busybox, the modules for disk and network, and our init. */
export async function writeNodeInitramfs(rootDir: string): Promise<Buffer> {
  const [release] = await readdir(join(rootDir, "usr/lib/modules"));
  const modulesDir = join(rootDir, "usr/lib/modules", release ?? "");
  const dependencies = parseModulesDep(await readFile(join(modulesDir, "modules.dep"), "utf8"));
  const files = loadOrder(dependencies, earlyModules);
  const entries: CpioEntry[] = ["bin", "dev", "modules", "overlay", "root"].map((path) => ({ path, directory: true }));
  const program = async (path: string, file: string) =>
    entries.push({ path, content: await readFile(file), mode: 0o755 });
  await program("bin/busybox", join(rootDir, "usr/bin/busybox"));
  await program("init", join(import.meta.dirname, "initramfs-init"));
  for (const file of files) {
    const content = await uncompressed(join(modulesDir, file));
    entries.push({ path: `modules/${moduleName(file)}.ko`, content, mode: 0o644 });
  }
  const order = files.map((file) => `${moduleName(file)}.ko\n`).join("");
  entries.push({ path: "modules/order", content: Buffer.from(order), mode: 0o644 });
  return writeCpio(entries);
}

/** A second archive, to be appended to the first: files that init copies onto the root disk at each boot. */
export function writeOverlay(files: readonly OverlayFile[]): Buffer {
  const entries: CpioEntry[] = [];
  const directories = new Set<string>();
  for (const { path, content, mode } of files) {
    const parts = `overlay${path}`.split("/");
    for (let depth = 1; depth < parts.length; depth++) directories.add(parts.slice(0, depth).join("/"));
    entries.push({ path: parts.join("/"), content: Buffer.from(content), mode: mode ?? 0o600 });
  }
  return writeCpio([...[...directories].sort().map((path) => ({ path, directory: true as const })), ...entries]);
}

/** `modules.dep`: "file: dependency dependency" (modules.dep(5)). */
export function parseModulesDep(text: string): Map<string, string[]> {
  const pairs = text.split("\n").flatMap((line) => {
    const [file, dependencies] = line.split(":");
    return file && dependencies !== undefined
      ? [[file, dependencies.trim().split(/\s+/).filter(Boolean)] as const]
      : [];
  });
  return new Map(pairs.map(([file, dependencies]) => [file, [...dependencies]]));
}

/** Files of the modules and of all they need, each after what it needs. */
export function loadOrder(dependencies: ReadonlyMap<string, readonly string[]>, modules: readonly string[]): string[] {
  const ordered: string[] = [];
  const add = (file: string) => {
    for (const dependency of dependencies.get(file) ?? []) add(dependency);
    if (!ordered.includes(file)) ordered.push(file);
  };
  for (const name of modules) {
    const file = [...dependencies.keys()].find((candidate) => moduleName(candidate) === name);
    if (!file) throw new Error(`the node's kernel has no module '${name}'`);
    add(file);
  }
  return ordered;
}

function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(\.\w+)?$/, "")
    .replaceAll("-", "_");
}

async function uncompressed(file: string): Promise<Uint8Array> {
  if (!file.endsWith(".xz")) return readFile(file);
  const copy = join(dirname(file), `${moduleName(file)}.plain`);
  await run(["sh", "-c", 'xz --decompress --stdout "$1" >"$2"', "sh", file, copy]);
  return readFile(copy);
}
