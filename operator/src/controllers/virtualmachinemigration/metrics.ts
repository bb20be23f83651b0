import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import {
  finalMigrationPhases,
  type VirtualMachineMigrationStatus,
} from "../../../../crds/src/virtualmachinemigration.ts";
import type { World } from "../virtualmachine/observe.ts";
import type { StoredMigration } from "./stored.ts";

/** What the migration controller counts. */
export interface MigrationMetrics {
  statusWritten(migration: StoredMigration, next: VirtualMachineMigrationStatus): void;
}

const DURATION_BUCKETS = [0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
const DOWNTIME_BUCKETS = [0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5];

/** Registers `typevisor_migration*`. */
export function migrationMetrics(registry: Registry, world: () => Pick<World, "migrations">): MigrationMetrics {
  const registers = [registry];
  const ended = new Counter({
    name: "typevisor_migrations_total",
    help: "Live migrations that ended, by result: Succeeded, Failed or Cancelled.",
    labelNames: ["result"],
    registers,
  });
  const duration = new Histogram({
    name: "typevisor_migration_duration_seconds",
    help: "From the turn of a live migration to its end, where it succeeded.",
    buckets: DURATION_BUCKETS,
    registers,
  });
  const downtime = new Histogram({
    name: "typevisor_migration_downtime_seconds",
    help: "How long guests stood still in live migrations, as their launchers measured it.",
    buckets: DOWNTIME_BUCKETS,
    registers,
  });
  new Gauge({
    name: "typevisor_migrations",
    help: "VirtualMachineMigrations by phase.",
    labelNames: ["phase"],
    registers,
    collect() {
      this.reset();
      for (const { status } of world().migrations.values()) this.inc({ phase: status?.phase ?? "Pending" });
    },
  });
  return {
    statusWritten: ({ status }, next) => {
      if (!finalMigrationPhases.has(next.phase ?? "") || status?.phase === next.phase) return;
      ended.inc({ result: next.phase ?? "" });
      if (next.phase !== "Succeeded") return;
      duration.observe(Math.max(0, (Date.parse(next.completedAt ?? "") - Date.parse(next.startedAt ?? "")) / 1000));
      if (next.result !== undefined) downtime.observe(next.result.downtimeMilliseconds / 1000);
    },
  };
}
