import type { MigrationProgress, MigrationStatus } from "../../api/migration.ts";
import { type MetricSource, metric } from "./prometheus.ts";

const OVER: ReadonlySet<MigrationStatus["phase"]> = new Set(["Gone", "Failed"]);

/** How far a migration away from here is; nothing while there is none. `status` answers undefined where none was ever asked for. */
export function migrationMetrics(status: () => MigrationStatus | undefined): MetricSource {
  return function* () {
    const { role, phase, progress } = status() ?? {};
    if (role !== "source" || progress === undefined || OVER.has(phase ?? null)) return;
    for (const [name, help, value] of gauges)
      yield metric(
        "gauge",
        `typevisor_vm_migration_${name}`,
        `${help} Only while a migration is under way.`,
        value(progress),
      );
  };
}

const gauges: readonly (readonly [name: string, help: string, value: (progress: MigrationProgress) => number])[] = [
  [
    "data_processed_bytes",
    "Memory, and blocks of disks that are copied, that were sent.",
    ({ sentBytes, diskSentBytes }) => sentBytes + diskSentBytes,
  ],
  [
    "data_remaining_bytes",
    "Memory, and blocks of disks that are copied, that the pass under way has left, about.",
    ({ remainingBytes, diskRemainingBytes }) => remainingBytes + diskRemainingBytes,
  ],
  [
    "transfer_rate_bytes",
    "What the last pass sent a second; 0 before its end.",
    ({ bytesPerSecond }) => bytesPerSecond,
  ],
  [
    "dirty_memory_rate_bytes",
    "What the guest wrote a second meanwhile, to memory and to disks that are copied.",
    ({ dirtyBytesPerSecond }) => dirtyBytesPerSecond,
  ],
  ["passes", "Passes so far, the one under way included.", ({ rounds }) => rounds],
  [
    "throttle_ratio",
    "How much of the time the guest is held back, so that it writes less.",
    ({ throttle }) => throttle,
  ],
];
