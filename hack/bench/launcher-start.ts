/**
 * How long a launcher takes from its process's start to the guest's first instruction, and what it keeps in memory
 * beside guest RAM, for 1 and 8 vCPUs, with the test guest. Build first: hack/build launcher && hack/build-testguest.
 *
 *   node hack/bench/launcher-start.ts [RUNS]        a table on standard error, JSON on standard output
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { LauncherStatus } from "../../launcher/api/control.ts";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import { median, round } from "./statistics.ts";

const repository = join(import.meta.dirname, "../..");
const runs = Number(process.argv[2] ?? 5);
/** The launcher gives back what starting took 15 s after it. */
const SETTLED_MS = 20_000;
const START_DEADLINE_MS = 30_000;

function config(directory: string, cpus: number): MachineConfig {
  return {
    version: 1,
    identity: { name: "bench", namespace: "bench", uid: "00000000-0000-4000-8000-000000000000" },
    cpu: { count: cpus, model: "Host" },
    memory: { sizeBytes: 64 * 2 ** 20 },
    boot: { imageRoot: join(repository, "dist/testguest"), kernelPath: "/testguest", commandLine: "" },
    disks: [],
    console: { historyBytes: 65536 },
    control: { socketPath: join(directory, "control.sock") },
    kvm: { devicePath: "/dev/kvm" },
    powerOffTimeoutMs: 5000,
    log: { level: "warn" },
  };
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

/** Private MiB of a process without its guest's RAM (proc_pid_smaps(5)), and its resident MiB with it. */
function memoryOf(pid: number): { privateMiB: number; residentMiB: number } {
  let own = true;
  let privateKiB = 0;
  let residentKiB = 0;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) own = !line.includes("memfd:");
    const [, name, kiB] = /^(\w+):\s+(\d+) kB/.exec(line) ?? [];
    if (own && (name === "Private_Dirty" || name === "Private_Clean")) privateKiB += Number(kiB);
    if (name === "Rss") residentKiB += Number(kiB);
  }
  return { privateMiB: round(privateKiB / 1024, 1), residentMiB: round(residentKiB / 1024, 1) };
}

async function start<T>(cpus: number, look: (child: ChildProcess, status: LauncherStatus) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "bench-launcher-"));
  const machine = join(directory, "machine.json");
  writeFileSync(machine, JSON.stringify(config(directory, cpus)));
  const env = { ...process.env, NODE_OPTIONS: "--expose-gc", MALLOC_ARENA_MAX: "1" };
  const argv = [join(repository, "dist/launcher/launcher.js"), "run", machine];
  const child = spawn(process.execPath, argv, { env, stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  try {
    return await look(child, await running(join(directory, "control.sock"), child));
  } finally {
    child.kill("SIGTERM");
    await exited;
    rmSync(directory, { recursive: true });
  }
}

const results = [];
for (const cpus of [1, 8]) {
  const samples: Record<string, number[]> = {};
  for (let i = 0; i < runs; i++) {
    const milestones = await start(cpus, async (_child, { milestones }) => milestones);
    for (const [step, ms] of Object.entries(milestones)) samples[step] = [...(samples[step] ?? []), ms];
  }
  const milestonesMs = Object.fromEntries(
    Object.entries(samples).map(([step, list]) => [step, round(median(list), 1)]),
  );
  const memory = await start(cpus, async (child) => {
    await delay(SETTLED_MS);
    return memoryOf(child.pid ?? 0);
  });
  results.push({ cpus, milestonesMs, ...memory });
  const steps = Object.entries(milestonesMs).map(([step, ms]) => `${step} ${ms}`);
  console.error(`${cpus} vCPU: ms since process start: ${steps.join(", ")}; ${memory.privateMiB} MiB private`);
}
console.log(JSON.stringify({ runs, results }, null, 2));
