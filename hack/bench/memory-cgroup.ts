import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isCgroupV2 } from "../dev-cluster/cgroups.ts";

/** What a memory cgroup is charged for, in bytes: memory.current and memory.stat of version 2, or the like of version 1. */
export interface CgroupMemory {
  readonly currentBytes: number;
  readonly anonBytes: number;
  /** Page cache of files, without shared memory. */
  readonly fileBytes: number;
  /** tmpfs and memfds: a launcher's guest RAM. */
  readonly shmemBytes: number;
  /** Page tables, stacks, slab, vmalloc. */
  readonly kernelBytes: number;
}

const root = "/sys/fs/cgroup";

/** A cgroup of its own for one measurement; disposing removes it, once its processes are gone. */
export class MemoryCgroup implements Disposable {
  readonly #path: string;

  /** Throws where this process may not make cgroups. */
  constructor(name: string) {
    if (isCgroupV2()) writeFileSync(join(root, "cgroup.subtree_control"), "+memory");
    this.#path = join(root, isCgroupV2() ? "" : "memory", name);
    mkdirSync(this.#path);
  }

  /** Put before a command, makes it run in here. */
  get wrapper(): readonly string[] {
    return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', join(this.#path, "cgroup.procs")];
  }

  read(): CgroupMemory {
    return readMemory(this.#path);
  }

  [Symbol.dispose](): void {
    if (existsSync(this.#path)) rmdirSync(this.#path);
  }
}

/** Figures of the cgroup at a path. */
export function readMemory(path: string): CgroupMemory {
  const text = readFileSync(join(path, "memory.stat"), "utf8");
  const stat = new Map(text.split("\n").map((line) => line.split(" ") as [string, string]));
  const bytes = (name: string) => Number(stat.get(name) ?? Number.NaN);
  const file = (name: string) => Number(readFileSync(join(path, name), "utf8"));
  if (isCgroupV2()) {
    const shmemBytes = bytes("shmem");
    return {
      currentBytes: file("memory.current"),
      anonBytes: bytes("anon"),
      fileBytes: bytes("file") - shmemBytes,
      shmemBytes,
      kernelBytes: bytes("kernel"),
    };
  }
  const shmemBytes = bytes("total_shmem");
  return {
    currentBytes: file("memory.usage_in_bytes"),
    anonBytes: bytes("total_rss"),
    fileBytes: bytes("total_cache") - shmemBytes,
    shmemBytes,
    kernelBytes: file("memory.kmem.usage_in_bytes"),
  };
}
