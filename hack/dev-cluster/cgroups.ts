import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "../lib/step.ts";

const root = "/sys/fs/cgroup";

export function isCgroupV2(): boolean {
  return existsSync(join(root, "cgroup.controllers"));
}

/** The hierarchies that are mounted: one in version 2, one for each controller in version 1. */
async function hierarchies(): Promise<string[]> {
  if (isCgroupV2()) return [root];
  const names = await readdir(root).catch(() => []);
  // `cpu` and `cpu,cpuacct` may be names of one mount; both work.
  return names.map((name) => join(root, name)).filter((path) => existsSync(join(path, "cgroup.procs")));
}

/** Makes `<cgroup>/system` in every hierarchy and gives the `cgroup.procs` files through which one joins it. */
export async function ensureCgroup(cgroup: string): Promise<string[]> {
  const procs: string[] = [];
  for (const hierarchy of await hierarchies()) {
    let path = hierarchy;
    for (const part of [cgroup, "system"]) {
      if (isCgroupV2()) await enableControllers(path);
      path = join(path, part);
      await mkdir(path, { recursive: true });
      await inheritCpuset(path);
    }
    procs.push(join(path, "cgroup.procs"));
  }
  return procs;
}

async function enableControllers(path: string): Promise<void> {
  const controllers = (await readFile(join(path, "cgroup.controllers"), "utf8")).split(/\s+/).filter(Boolean);
  for (const controller of controllers) {
    // One that cannot be enabled here (rt scheduling, delegation) is missed later by name, by the kubelet.
    await writeFile(join(path, "cgroup.subtree_control"), `+${controller}`).catch(() => {});
  }
}

/** A new cpuset of version 1 has no CPU and no memory node, and lets no process in (cpusets(7)). */
async function inheritCpuset(path: string): Promise<void> {
  for (const file of ["cpuset.cpus", "cpuset.mems"]) {
    if (isCgroupV2() || !existsSync(join(path, file))) continue;
    if ((await readFile(join(path, file), "utf8")).trim() !== "") continue;
    await writeFile(join(path, file), await readFile(join(path, "..", file), "utf8"));
  }
}

/** Kills everything in the cgroup and removes it; nothing outside it can be hit. */
export async function removeCgroup(cgroup: string): Promise<void> {
  for (const hierarchy of await hierarchies()) {
    const top = join(hierarchy, cgroup);
    if (!existsSync(top)) continue;
    await waitFor(
      async () => {
        const pids = (await Promise.all((await descendants(top)).map(pidsIn))).flat();
        for (const pid of pids) kill(pid);
        return pids.length === 0;
      },
      { what: `the processes in ${top} to end`, timeoutMs: 30_000, intervalMs: 50 },
    );
    await waitFor(() => removeTree(top), { what: `${top} to be removable`, timeoutMs: 10_000 });
  }
}

async function removeTree(top: string): Promise<boolean> {
  for (const path of (await descendants(top)).reverse()) {
    try {
      await rmdir(path);
    } catch (error) {
      // A process that is being reaped keeps its cgroup busy for a moment.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") return false;
    }
  }
  return true;
}

/** `top` and all cgroups below, parents first. */
async function descendants(top: string): Promise<string[]> {
  const entries = await readdir(top, { withFileTypes: true }).catch(() => []);
  const below = await Promise.all(
    entries.filter((entry) => entry.isDirectory()).map((entry) => descendants(join(top, entry.name))),
  );
  return [top, ...below.flat()];
}

async function pidsIn(path: string): Promise<number[]> {
  const text = await readFile(join(path, "cgroup.procs"), "utf8").catch(() => "");
  // 0 stands for a process of another pid namespace, and would mean ourselves to kill(2).
  return text
    .split("\n")
    .map(Number)
    .filter((pid) => pid > 0);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
