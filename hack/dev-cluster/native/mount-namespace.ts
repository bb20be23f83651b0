import { existsSync } from "node:fs";
import { mkdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { run } from "../../lib/step.ts";
import { type Layout, layoutOf } from "../layout.ts";
import { nodePaths } from "../node-config.ts";
import { clusterNames, writeAtomic } from "../state.ts";

/** Directories of the node that are the cluster's own, although they have the usual names: host path -> ours. */
function privateDirectories(layout: Layout): Array<{ path: string; ours: string }> {
  const kept = (name: string) => join(layout.stateDir, "node", name);
  const volatile = (name: string) => join(layout.runDir, "node", name);
  return [
    { path: "/etc/cni", ours: kept("etc-cni") },
    { path: "/etc/containerd", ours: kept("etc-containerd") },
    { path: "/etc/kubernetes", ours: kept("etc-kubernetes") },
    { path: "/opt/cni", ours: kept("opt-cni") },
    { path: nodePaths.localVolumes, ours: kept("local-volumes") },
    { path: "/run/containerd", ours: volatile("run-containerd") },
    { path: "/run/netns", ours: volatile("run-netns") },
    // Where the node agent listens.
    { path: "/run/typevisor", ours: volatile("run-typevisor") },
    { path: "/var/lib/cni", ours: kept("lib-cni") },
    { path: "/var/lib/containerd", ours: kept("lib-containerd") },
    { path: "/var/lib/kubelet", ours: kept("lib-kubelet") },
    { path: "/var/log/containers", ours: kept("log-containers") },
    { path: "/var/log/pods", ours: kept("log-pods") },
  ];
}

/** What the kubelet insists on (its setupKernelTunables); shown to it, without changing the machine. */
const kernelDefaults: Readonly<Record<string, string>> = {
  "vm/overcommit_memory": "1",
  "vm/panic_on_oom": "0",
  "kernel/panic": "10",
  "kernel/panic_on_oops": "1",
  "kernel/keys/root_maxkeys": "1000000",
  "kernel/keys/root_maxbytes": "25000000",
};

export function mountNamespaceFile(layout: Layout): string {
  return join(layout.runDir, "namespaces/mount");
}

/** Where a path of the node is on the machine, outside its mount namespace. */
export function hostPath(layout: Layout, path: string): string {
  const found = privateDirectories(layout).find((entry) => path.startsWith(`${entry.path}/`));
  return found ? found.ours + path.slice(found.path.length) : path;
}

/**
 * Makes a mount namespace in which the node's directories have their usual names.
 * Everything that kubelet and containerd mount is in it, and vanishes with it.
 */
export async function ensureMountNamespace(layout: Layout): Promise<void> {
  if (await isMounted(mountNamespaceFile(layout))) return;
  const holder = dirname(mountNamespaceFile(layout));
  await mkdir(holder, { recursive: true });
  // A mount namespace can be kept by a bind mount only below a mount that does not propagate (unshare(1)).
  if (!(await isMounted(holder))) {
    await run(["mount", "-t", "tmpfs", "-o", "mode=700", "typevisor", holder]);
    await run(["mount", "--make-private", holder]);
  }
  await writeFile(mountNamespaceFile(layout), "");
  await makeMountPoints(layout);
  const script = ["mount --make-rshared /"];
  for (const { path, ours } of privateDirectories(layout)) {
    await mkdir(ours, { recursive: true });
    script.push(`mount --bind "${ours}" "${path}"`);
  }
  for (const [name, value] of Object.entries(kernelDefaults)) {
    const file = join(layout.runDir, "kernel-defaults", name);
    await writeAtomic(file, `${value}\n`);
    script.push(`mount --bind "${file}" "/proc/sys/${name}"`);
  }
  await unshareMounts(mountNamespaceFile(layout), script.join("\n"));
}

/**
 * The kernel lets a mount namespace be mounted only in an older one, and tells age by numbers that newer kernels hand
 * out to each CPU in blocks. Where we are not in the first namespace ourselves, not every CPU makes a newer one.
 */
async function unshareMounts(file: string, script: string): Promise<void> {
  const unshare = ["unshare", `--mount=${file}`, "--propagation", "slave", "sh", "-ec", script];
  const pinned = cpus().map((_, cpu) => ["taskset", "--cpu-list", String(cpu), ...unshare]);
  let failure: unknown;
  for (const command of [unshare, ...pinned]) {
    try {
      await run(command, { label: "unshare --mount" });
      return;
    } catch (error) {
      failure = error;
      if (!String(error).includes("Invalid argument")) break;
    }
  }
  throw failure;
}

/** Ends the namespace; the last process in it must be gone. */
export async function removeMountNamespace(layout: Layout): Promise<void> {
  const holder = dirname(mountNamespaceFile(layout));
  for (const path of [mountNamespaceFile(layout), holder]) {
    if (await isMounted(path)) await run(["umount", path]);
  }
  await removeMountPoints(layout);
}

const mountPointsFile = (layout: Layout) => join(layout.stateDir, "made-directories.json");

/** A bind mount needs a directory to hide; those that we make are remembered, to be removed again. */
async function makeMountPoints(layout: Layout): Promise<void> {
  const made: string[] = await readMountPoints(layout);
  for (const { path } of privateDirectories(layout)) {
    const first = await mkdir(path, { recursive: true });
    if (first) made.push(path);
  }
  await writeAtomic(mountPointsFile(layout), JSON.stringify(made));
}

/** Removing a directory takes away what another namespace has mounted there: the last cluster removes them. */
async function removeMountPoints(layout: Layout): Promise<void> {
  const made = await readMountPoints(layout);
  const [heir] = (await clusterNames()).filter((name) => name !== layout.name);
  if (heir !== undefined) {
    const inherited = new Set([...(await readMountPoints(layoutOf(heir))), ...made]);
    await writeAtomic(mountPointsFile(layoutOf(heir)), JSON.stringify([...inherited]));
    return;
  }
  for (const path of made) {
    // Someone may have put something there since.
    await rmdir(path).catch(() => {});
  }
}

async function readMountPoints(layout: Layout): Promise<string[]> {
  const file = mountPointsFile(layout);
  return existsSync(file) ? (JSON.parse(await readFile(file, "utf8")) as string[]) : [];
}

async function isMounted(path: string): Promise<boolean> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  return mounts.split("\n").some((line) => line.split(" ")[4] === path);
}
