import type { MigrationStatus } from "../../api/migration.ts";
import type { MachineControls } from "../machine/control-surface.ts";
import type { GuestConsole } from "./console/guest-console.ts";
import { diskMetrics } from "./disk-metrics.ts";
import type { LauncherApi } from "./launcher-api.ts";
import type { LoopLag } from "./loop-lag.ts";
import { controlMetrics, machineMetrics, processMetrics } from "./machine-metrics.ts";
import { migrationMetrics } from "./migration-metrics.ts";
import { networkMetrics } from "./network-metrics.ts";
import type { MetricSource } from "./prometheus.ts";
import { memoryMetrics, vcpuMetrics } from "./thread-metrics.ts";
import { vsockMetrics } from "./vsock-metrics.ts";

export interface TelemetrySubjects {
  readonly machine: MachineControls;
  readonly console: GuestConsole;
  readonly api: LauncherApi;
  readonly lag: LoopLag;
  /** Of the migration away from here; answers undefined while none was asked for. */
  readonly migration?: () => MigrationStatus | undefined;
  /** This process's directory in /proc; a test's own elsewhere. */
  readonly processDirectory?: string;
}

/** All that a launcher's /metrics tells; docs/metrics.md is generated from it. */
export function telemetrySources(subjects: TelemetrySubjects): readonly MetricSource[] {
  const { machine, console, api, lag, migration = () => undefined, processDirectory = "/proc/self" } = subjects;
  return [
    machineMetrics(machine),
    vcpuMetrics(processDirectory),
    diskMetrics(machine),
    networkMetrics(machine),
    vsockMetrics(machine),
    migrationMetrics(migration),
    memoryMetrics(processDirectory),
    processMetrics(lag),
    controlMetrics(console, api),
  ];
}
