import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Metric, type MetricSource, metric } from "./prometheus.ts";

/** What launcher/native/vcpu.c calls its threads. */
const VCPU_THREAD_NAME = "vcpu";

/**
 * What the vCPUs' threads did with their time, as the kernel's scheduler counts it (proc/PID/schedstat: nanoseconds on a
 * processor, nanoseconds ready and waiting for one). `directory` is a process's in /proc.
 */
export function vcpuMetrics(directory: string): MetricSource {
  const threads = new VcpuThreads(directory);
  return function* () {
    const times = threads.ids().flatMap((thread, id) => {
      const [running, delayed] = schedulerTimes(join(directory, "task", thread, "schedstat")) ?? [];
      return running === undefined || delayed === undefined ? [] : [{ id: String(id), running, delayed }];
    });
    if (times.length === 0) return;
    yield {
      name: "typevisor_vm_vcpu_seconds_total",
      help: "Time of a virtual processor by state: running on a processor of the node, or delayed for want of one. Idle is the rest.",
      type: "counter",
      samples: times.flatMap(({ id, running, delayed }): Metric["samples"] => [
        [{ id, state: "running" }, running],
        [{ id, state: "delayed" }, delayed],
      ]),
    };
  };
}

/** Resident memory by what it is; `directory` is a process's in /proc. */
export function memoryMetrics(directory: string): MetricSource {
  return function* () {
    const status = readIfThere(join(directory, "status")) ?? "";
    const bytes = (field: string) => {
      const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
      return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
    };
    const [anonymous, file, shared] = [bytes("RssAnon"), bytes("RssFile"), bytes("RssShmem")];
    const [pageTables, swapped] = [bytes("VmPTE"), bytes("VmSwap")];
    if (anonymous === undefined || file === undefined || shared === undefined) return;
    yield metric(
      "gauge",
      "typevisor_vm_memory_guest_resident_bytes",
      "Memory of the guest that it has touched, and that takes room on the node.",
      shared,
    );
    yield metric(
      "gauge",
      "typevisor_vm_launcher_memory_overhead_bytes",
      "Resident memory of the launcher without the guest's: its own, and files that others may share.",
      anonymous + file,
    );
    const kinds = Object.entries({ anonymous, file, page_tables: pageTables, swapped });
    yield {
      name: "typevisor_vm_launcher_memory_bytes",
      help: "Memory of the launcher without the guest's, by kind: anonymous (heap, buffers, stacks), file (code, shared between launchers of a node), page_tables (of the guest's memory, too; not resident, but charged to the pod), swapped.",
      type: "gauge",
      samples: kinds.flatMap(([kind, value]): Metric["samples"] => (value === undefined ? [] : [[{ kind }, value]])),
    };
  };
}

/** The vCPUs' threads in the order in which they were made, which is that of the vCPUs. They live as long as the machine. */
class VcpuThreads {
  readonly #tasks: string;
  #known: readonly string[] = [];

  constructor(directory: string) {
    this.#tasks = join(directory, "task");
  }

  ids(): readonly string[] {
    if (this.#known.length === 0) this.#known = this.#look();
    return this.#known;
  }

  #look(): string[] {
    const isVcpu = (thread: string) => readIfThere(join(this.#tasks, thread, "comm"))?.trim() === VCPU_THREAD_NAME;
    return readdirSync(this.#tasks)
      .filter(isVcpu)
      .sort((a, b) => Number(a) - Number(b));
  }
}

/** Seconds; undefined where the kernel keeps no such counts, or the thread has ended. */
function schedulerTimes(path: string): readonly [running: number, delayed: number] | undefined {
  const match = /^(\d+) (\d+) /.exec(readIfThere(path) ?? "");
  return match === null ? undefined : [Number(match[1]) / 1e9, Number(match[2]) / 1e9];
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
