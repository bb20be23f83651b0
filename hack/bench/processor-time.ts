import { readdirSync, readFileSync } from "node:fs";
import { parseProcessStat, TICKS_PER_SECOND } from "../lib/process-stat.ts";

/** Programs by what their command line holds, with what they run and wait for; the first that fits. */
const PROGRAMS: readonly (readonly [name: string, mark: string])[] = [
  ["launchers", "/app/launcher.js"],
  ["operator", "/app/operator.js controllers"],
  ["node agent", "/app/operator.js node"],
  ["plain pods", "createServer("],
  ["containerd, shims and runc", "containerd"],
  ["kubelet", "/kubelet "],
  ["API server", "kube-apiserver"],
  ["etcd", "etcd "],
  ["scheduler", "kube-scheduler"],
];

/** Processor time so far, in seconds: of the machine, and of each process with its ended children. */
export interface ProcessorTime {
  readonly allSeconds: number;
  readonly processes: ReadonlyMap<string, { readonly program: string; readonly seconds: number }>;
}

/** Reads it (proc_stat(5), proc_pid_stat(5)). */
export function processorTime(): ProcessorTime {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] =
    readFileSync("/proc/stat", "utf8").split("\n", 1)[0]?.split(/\s+/).map(Number) ?? [];
  const processes = new Map<string, { program: string; seconds: number }>();
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const command = `${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")} `;
      const [program] = PROGRAMS.find(([, mark]) => command.includes(mark)) ?? [];
      if (program === undefined) continue;
      const stat = parseProcessStat(readFileSync(`/proc/${pid}/stat`, "utf8"));
      const seconds = (stat.cpuTicks + stat.childrenTicks) / TICKS_PER_SECOND;
      processes.set(`${pid} ${stat.startTicks}`, { program, seconds });
    } catch {
      // It has ended meanwhile.
    }
  }
  return { allSeconds: (user + nice + system + irq + softirq) / TICKS_PER_SECOND, processes };
}

/** Seconds spent since `before`, by program; "all" is the machine's, whoever else used it. */
export function spentSince(before: ProcessorTime): Record<string, number> {
  const now = processorTime();
  const spent: Record<string, number> = { all: now.allSeconds - before.allSeconds };
  for (const [id, { program, seconds }] of now.processes)
    spent[program] = (spent[program] ?? 0) + seconds - (before.processes.get(id)?.seconds ?? 0);
  return Object.fromEntries(Object.entries(spent).map(([program, seconds]) => [program, Number(seconds.toFixed(1))]));
}
