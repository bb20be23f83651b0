import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type CpioEntry, writeCpio } from "./cpio.ts";

/** Drivers that the guests need and Debian's cloud kernel has as modules; what they depend on comes along. */
const modules = ["button", "evdev", "virtio_blk", "virtio_net", "virtio_rng", "pvpanic_mmio"];

const powerButtonScript = "#!/bin/sh\nexec /bin/busybox poweroff\n";
const profile = "PS1='hello# '\n";
/** What its web server has to show. */
const page = "<!doctype html><title>hello</title><p>Hello from a virtual machine.\n";

/**
 * The initramfs of the small guests: a static busybox, the drivers, and `init` beside this file.
 * `packages` is where busybox-static and the kernel were unpacked, its modules uncompressed.
 */
export async function buildInitramfs(packages: string): Promise<Buffer> {
  const busybox = await readFile(join(packages, "usr/bin/busybox"));
  const drivers = await modulesInOrder(packages, modules);
  const directories = ["bin", "etc", "etc/acpi", "etc/acpi/PWRF", "root", "modules", "www"];
  const text = (path: string, content: string, mode: number): CpioEntry => ({
    path,
    content: Buffer.from(content),
    mode,
  });
  return writeCpio([
    ...directories.map((path): CpioEntry => ({ path, directory: true })),
    { path: "init", content: await readFile(join(import.meta.dirname, "init")), mode: 0o755 },
    { path: "bin/busybox", content: busybox, mode: 0o755 },
    { path: "bin/sh", symlink: "busybox" },
    text("etc/passwd", "root::0:0:root:/root:/bin/sh\n", 0o644),
    text("etc/profile", profile, 0o644),
    { path: "etc/dhcp-event", content: await readFile(join(import.meta.dirname, "dhcp-event")), mode: 0o755 },
    text("www/index.html", page, 0o644),
    // Where busybox acpid looks for what to do when the power button is pressed.
    text("etc/acpi/PWRF/00000080", powerButtonScript, 0o755),
    text("modules/order", drivers.map(({ name }) => `${name}\n`).join(""), 0o644),
    ...drivers.map(({ name, content }): CpioEntry => ({ path: `modules/${name}.ko`, content, mode: 0o644 })),
  ]);
}

export interface KernelModule {
  readonly name: string;
  readonly content: Buffer;
}

/** The modules and what they depend on, each after its dependencies. */
export async function modulesInOrder(packages: string, names: readonly string[]): Promise<KernelModule[]> {
  const root = join(packages, "usr/lib/modules");
  const files = new Map<string, string>();
  for (const path of await readdir(root, { recursive: true })) {
    const match = /([^/]+)\.ko$/.exec(path);
    if (match?.[1]) files.set(canonical(match[1]), join(root, path));
  }
  const loaded = new Map<string, KernelModule>();
  const load = async (name: string): Promise<void> => {
    if (loaded.has(name)) return;
    const file = files.get(name);
    if (!file) throw new Error(`the kernel package has no module '${name}'`);
    const content = await readFile(file);
    for (const dependency of dependenciesOf(content)) await load(dependency);
    loaded.set(name, { name, content });
  };
  for (const name of names) await load(name);
  return [...loaded.values()];
}

/** Names of the modules that a module's `.modinfo` section says it needs. */
export function dependenciesOf(module: Buffer): string[] {
  const start = module.indexOf("\0depends=");
  if (start < 0) return [];
  const from = start + "\0depends=".length;
  const list = module.toString("latin1", from, module.indexOf(0, from));
  return list === "" ? [] : list.split(",").map(canonical);
}

function canonical(name: string): string {
  return name.replaceAll("-", "_");
}
