import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { LauncherStatus } from "../../launcher/api/control.ts";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";

export const repository = join(import.meta.dirname, "../..");
export const launcherBundle = join(repository, "dist/launcher/launcher.js");
/** The environment that the launcher's image sets. */
export const launcherEnvironment = { NODE_OPTIONS: "--expose-gc", MALLOC_ARENA_MAX: "1" };
/** The launcher gives back what starting took 15 s after it. */
export const SETTLED_MS = 20_000;
export const MIB = 2 ** 20;

const START_DEADLINE_MS = 30_000;

/** A machine of the test guest, with its control socket in `directory`; `parts` override. */
export function testGuestConfig(directory: string, cpus: number, parts: Partial<MachineConfig> = {}): MachineConfig {
  return {
    version: 1,
    identity: { name: "bench", namespace: "bench", uid: "00000000-0000-4000-8000-000000000000" },
    cpu: { count: cpus, model: "Host" },
    memory: { sizeBytes: 64 * MIB },
    boot: { imageRoot: join(repository, "dist/testguest"), kernelPath: "/testguest", commandLine: "" },
    disks: [],
    console: { historyBytes: 65536 },
    control: { socketPath: socketIn(directory) },
    kvm: { devicePath: "/dev/kvm" },
    powerOffTimeoutMs: 5000,
    log: { level: "warn" },
    ...parts,
  };
}

export function socketIn(directory: string): string {
  return join(directory, "control.sock");
}

export interface RunningLauncher {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly status: LauncherStatus;
  readonly directory: string;
}

export interface LaunchOptions {
  /** The machine, given the directory that is the launcher's own. */
  readonly config: (directory: string) => MachineConfig;
  /** Put before the command, e.g. to enter a cgroup. */
  readonly wrapper?: readonly string[];
  readonly node?: string;
  readonly bundle?: string;
}

/** Runs a launcher until its guest runs, lets `look` look at it, and ends it. */
export async function withLauncher<T>(options: LaunchOptions, look: (it: RunningLauncher) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "bench-launcher-"));
  const machine = join(directory, "machine.json");
  writeFileSync(machine, JSON.stringify(options.config(directory)));
  const { wrapper = [], node = process.execPath, bundle = launcherBundle } = options;
  const [program = "", ...argv] = [...wrapper, node, bundle, "run", machine];
  const env = { ...process.env, ...launcherEnvironment };
  const child = spawn(program, argv, { env, stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  try {
    const status = await running(socketIn(directory), child);
    return await look({ child, pid: child.pid ?? 0, status, directory });
  } finally {
    child.kill("SIGTERM");
    await exited;
    rmSync(directory, { recursive: true });
  }
}

async function running(socketPath: string, child: ChildProcess): Promise<LauncherStatus> {
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    try {
      return await status(socketPath);
    } catch (error) {
      if (child.exitCode !== null || Date.now() > deadline) throw error;
      await delay(20);
    }
  }
}

/** Rejects while nobody listens. */
function status(socketPath: string): Promise<LauncherStatus> {
  const { promise, resolve, reject } = Promise.withResolvers<LauncherStatus>();
  get({ socketPath, path: "/v1/status?waitFor=Running&timeoutMs=20000" }, (response) => {
    let text = "";
    response.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    response.on("end", () => resolve(JSON.parse(text) as LauncherStatus));
  }).on("error", reject);
  return promise;
}

/** Private and resident bytes of a process, both without its guest's RAM (proc_pid_smaps(5)). */
export function processMemory(pid: number): { privateBytes: number; residentBytes: number } {
  let own = true;
  let privateKiB = 0;
  let residentKiB = 0;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) own = !line.includes("memfd:");
    const [, name, kiB] = /^(\w+):\s+(\d+) kB/.exec(line) ?? [];
    if (own && (name === "Private_Dirty" || name === "Private_Clean")) privateKiB += Number(kiB);
    if (own && name === "Rss") residentKiB += Number(kiB);
  }
  return { privateBytes: privateKiB * 1024, residentBytes: residentKiB * 1024 };
}
