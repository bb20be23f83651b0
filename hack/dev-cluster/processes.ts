import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseProcessStat } from "../lib/process-stat.ts";
import { say, tail, waitFor } from "../lib/step.ts";
import type { Layout } from "./layout.ts";
import { writeAtomic } from "./state.ts";

export interface ProcessSpec {
  readonly name: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Files of namespaces to enter. */
  readonly netns?: string;
  readonly mountNamespace?: string;
  /** `cgroup.procs` files to be written before the program starts. */
  readonly cgroupProcs?: readonly string[];
}

/** Enough to know a process again, even when its number was given to another since. */
interface ProcessRecord {
  readonly pid: number;
  readonly startTicks: string;
  readonly bootId: string;
  readonly spec: ProcessSpec;
}

export type EnsureResult = "kept" | "started" | "restarted";

const recordFile = (layout: Layout, name: string) => join(layout.runDir, "processes", `${name}.json`);

export function logFileOf(layout: Layout, name: string): string {
  return join(layout.logDir, `${name}.log`);
}

/** Starts the process unless it runs already as `spec` says. It outlives us; `stopProcess` ends it. */
export async function ensureProcess(layout: Layout, spec: ProcessSpec): Promise<EnsureResult> {
  if (await runsAs(layout, spec)) return "kept";
  const record = await readRecord(layout, spec.name);
  if (record && isAlive(record)) {
    await stopProcess(layout, spec.name);
  } else if (record) {
    say(`${spec.name} had ended: starting it again`);
  }
  await startProcess(layout, spec);
  return record ? "restarted" : "started";
}

async function startProcess(layout: Layout, spec: ProcessSpec): Promise<void> {
  await mkdir(layout.logDir, { recursive: true });
  const log = openSync(logFileOf(layout, spec.name), "a");
  try {
    const [program = "", ...args] = commandLine(spec);
    const child = spawn(program, args, {
      detached: true,
      cwd: "/",
      env: { ...process.env, ...spec.env },
      stdio: ["ignore", log, log],
    });
    const pid = await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("spawn", () => resolve(child.pid ?? 0));
    });
    child.unref();
    // One that has ended already is recorded like one that ends a moment later: who waits for it gets its last words.
    const record: ProcessRecord = { pid, startTicks: startTicksOf(pid) ?? "ended", bootId: bootId(), spec };
    await writeAtomic(recordFile(layout, spec.name), JSON.stringify(record));
  } finally {
    closeSync(log);
  }
}

/** Each stage replaces the one before (exec), so the number that `spawn` gives is the program's. */
function commandLine(spec: ProcessSpec): string[] {
  const joinCgroups = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit; shift; done; shift; exec "$@"';
  const namespaces = [
    ...(spec.netns ? [`--net=${spec.netns}`] : []),
    ...(spec.mountNamespace ? [`--mount=${spec.mountNamespace}`] : []),
  ];
  return [
    ...["sh", "-c", joinCgroups, "sh", ...(spec.cgroupProcs ?? []), "--"],
    ...(namespaces.length > 0 ? ["nsenter", ...namespaces, "--"] : []),
    ...spec.argv,
  ];
}

/** Ends the process, politely first; does nothing if it is not running. */
export async function stopProcess(layout: Layout, name: string, graceMs = 10_000): Promise<void> {
  const record = await readRecord(layout, name);
  if (record && isAlive(record)) {
    process.kill(record.pid, "SIGTERM");
    const gone = async () => !isAlive(record);
    await waitFor(gone, { what: `${name} to end`, timeoutMs: graceMs, intervalMs: 20 }).catch(async () => {
      if (isAlive(record)) process.kill(record.pid, "SIGKILL");
      await waitFor(gone, { what: `${name} to be killed`, timeoutMs: 10_000, intervalMs: 20 });
    });
  }
  await rm(recordFile(layout, name), { force: true });
}

export async function isProcessRunning(layout: Layout, name: string): Promise<boolean> {
  const record = await readRecord(layout, name);
  return record !== undefined && isAlive(record);
}

/** Asks until the answer is true; gives up at once when the process ends. The error shows the end of its log. */
export async function waitForProcess(
  layout: Layout,
  name: string,
  ask: () => Promise<boolean>,
  timeoutMs: number,
): Promise<void> {
  const logFile = logFileOf(layout, name);
  await waitFor(
    async () => {
      if (await ask()) return true;
      if (!(await isProcessRunning(layout, name)))
        throw new Error(`${name} ended:\n${await tail(logFile)}\n${logFile}`);
      return false;
    },
    { what: name, timeoutMs, logFile },
  );
}

/** Whether the process runs, and runs as `spec` says. */
export async function runsAs(layout: Layout, spec: ProcessSpec): Promise<boolean> {
  const record = await readRecord(layout, spec.name);
  return record !== undefined && isAlive(record) && JSON.stringify(record.spec) === JSON.stringify(spec);
}

export async function processNames(layout: Layout): Promise<string[]> {
  const files = await readdir(join(layout.runDir, "processes")).catch(() => []);
  return files.filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));
}

async function readRecord(layout: Layout, name: string): Promise<ProcessRecord | undefined> {
  const text = await readFile(recordFile(layout, name), "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as ProcessRecord);
}

function isAlive(record: ProcessRecord): boolean {
  return record.bootId === bootId() && startTicksOf(record.pid) === record.startTicks;
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/** Field 22 of /proc/PID/stat; undefined for no process and for a zombie (proc_pid_stat(5)). */
function startTicksOf(pid: number): string | undefined {
  try {
    const { state, startTicks } = parseProcessStat(readFileSync(`/proc/${pid}/stat`, "utf8"));
    return state === "Z" ? undefined : startTicks;
  } catch {
    return undefined;
  }
}
