import type { MachineState } from "../../api/control.ts";
import type { MachineControls } from "../machine/control-surface.ts";
import type { GuestConsole } from "./console/guest-console.ts";
import type { LauncherApi } from "./launcher-api.ts";
import type { LoopLag } from "./loop-lag.ts";
import { histogramSamples, type Metric, type MetricSource, metric } from "./prometheus.ts";

const STATES: readonly MachineState[] = ["Starting", "Running", "Paused", "Stopping", "Ended"];

/** The machine as the Launcher API tells of it. */
export function machineMetrics(machine: MachineControls): MetricSource {
  return function* () {
    const status = machine.status();
    const flag = (on: boolean) => (on ? 1 : 0);
    yield labelled("gauge", "typevisor_vm_info", "The launcher that runs the machine.", "version", [
      [status.launcherVersion, 1],
    ]);
    yield labelled(
      "gauge",
      "typevisor_vm_state",
      "1 for the state that the machine is in.",
      "state",
      STATES.map((state) => [state, flag(state === status.state)]),
    );
    if (status.ioEngine !== undefined)
      yield labelled("gauge", "typevisor_vm_io_engine_info", "What does the I/O of the disks that waits.", "engine", [
        [status.ioEngine, 1],
      ]);
    yield metric(
      "counter",
      "typevisor_vm_polling_seconds_total",
      "Processor time spent on looking for the next request to a disk, or the next frame, before sleeping.",
      machine.pollingSeconds,
    );
    if (status.startedAt !== null)
      yield metric(
        "gauge",
        "typevisor_vm_start_time_seconds",
        "When the guest's first instruction ran, since the epoch.",
        Date.parse(status.startedAt) / 1000,
      );
    yield metric("counter", "typevisor_vm_reboots_total", "Guest reboots and resets.", status.reboots);
    yield metric(
      "gauge",
      "typevisor_vm_guest_panicked",
      "1 once the guest told of a kernel panic.",
      flag(status.guestPanicked),
    );
    yield metric("gauge", "typevisor_vm_vcpus", "Virtual processors.", status.cpus);
    yield metric("gauge", "typevisor_vm_memory_domain_bytes", "Memory of the guest.", status.memoryBytes);
    yield labelled(
      "counter",
      "typevisor_vm_exits_total",
      "Exits of the guest to the launcher.",
      "kind",
      Object.entries(status.exits),
    );
    if (machine.roundTrips !== null)
      yield {
        name: "typevisor_vm_exit_round_trip_seconds",
        help: "From an exit of the guest until its virtual processor was back in it with the answer; pauses are left out.",
        type: "histogram",
        samples: histogramSamples({}, machine.roundTrips),
      };
    yield labelled(
      "gauge",
      "typevisor_vm_milestone_seconds",
      "Time from process start until a step was done.",
      "step",
      Object.entries(status.milestones).map(([step, ms]) => [step, ms / 1000]),
    );
  };
}

/** The launcher's own process. */
export function processMetrics(lag: LoopLag): MetricSource {
  return function* () {
    const { userCPUTime, systemCPUTime, majorPageFault, minorPageFault } = process.resourceUsage();
    const memory = process.memoryUsage();
    const cpu = "processor time of the launcher, virtual processors included.";
    const counter = (name: string, help: string, value: number) => metric("counter", name, help, value);
    const gauge = (name: string, help: string, value: number) => metric("gauge", name, help, value);
    yield counter("typevisor_vm_cpu_user_usage_seconds_total", `User ${cpu}`, userCPUTime / 1e6);
    yield counter("typevisor_vm_cpu_system_usage_seconds_total", `System ${cpu}`, systemCPUTime / 1e6);
    yield counter("typevisor_vm_cpu_usage_seconds_total", `All ${cpu}`, (userCPUTime + systemCPUTime) / 1e6);
    yield gauge(
      "typevisor_vm_memory_resident_bytes",
      "Resident memory of the launcher, the guest's touched memory included.",
      memory.rss,
    );
    yield counter("typevisor_vm_memory_pgmajfault_total", "Major page faults of the launcher.", majorPageFault);
    yield counter("typevisor_vm_memory_pgminfault_total", "Minor page faults of the launcher.", minorPageFault);
    yield gauge("typevisor_launcher_heap_used_bytes", "JavaScript heap in use.", memory.heapUsed);
    yield gauge("typevisor_launcher_heap_total_bytes", "JavaScript heap reserved.", memory.heapTotal);
    yield gauge(
      "typevisor_launcher_event_loop_lag_max_seconds",
      "Longest delay of the event loop since the last scrape.",
      lag.takeMaxMs() / 1000,
    );
    const totals = lag.totals;
    yield counter(
      "typevisor_launcher_event_loop_lag_seconds_total",
      "Sum of the event loop's sampled delays.",
      totals.sumMs / 1000,
    );
    yield counter("typevisor_launcher_event_loop_lag_samples_total", "Samples of that delay.", totals.count);
  };
}

/** Console and Launcher API. */
export function controlMetrics(console: GuestConsole, api: LauncherApi): MetricSource {
  return function* () {
    const counter = (name: string, help: string, value: number) => metric("counter", name, help, value);
    yield counter("typevisor_vm_console_output_bytes_total", "Console output of the guest.", console.outputBytes);
    yield counter("typevisor_vm_console_input_bytes_total", "Console input the guest took.", console.inputBytes);
    yield counter(
      "typevisor_vm_console_dropped_bytes_total",
      "Console output that slow readers did not get.",
      console.droppedBytes,
    );
    yield metric("gauge", "typevisor_vm_console_attached", "Consoles that are attached.", console.attached);
    yield {
      name: "typevisor_launcher_api_requests_total",
      help: "Requests of the Launcher API.",
      type: "counter",
      samples: [...api.requests].map(([key, count]) => {
        const [method = "", path = "", code = ""] = key.split(" ");
        return [{ method, path, code }, count];
      }),
    };
  };
}

function labelled(
  type: Metric["type"],
  name: string,
  help: string,
  label: string,
  values: readonly (readonly [string, number])[],
): Metric {
  return { type, name, help, samples: values.map(([value, number]) => [{ [label]: value }, number]) };
}
