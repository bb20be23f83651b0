import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import {
  finalMigrationPhases,
  type VirtualMachineMigrationStatus,
} from "../../../../crds/src/virtualmachinemigration.ts";
import { movesOf, type World } from "../virtualmachine/observe.ts";
import type { StoredMigration } from "./stored.ts";

/** What the migration controller counts. */
export interface MigrationMetrics {
  statusWritten(migration: StoredMigration, next: VirtualMachineMigrationStatus): void;
}

const DURATION_BUCKETS = [0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
const DOWNTIME_BUCKETS = [0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5];

/** Registers `typevisor_migration*`. */
export function migrationMetrics(registry: Registry, world: () => World, nowMs: () => number): MigrationMetrics {
  const registers = [registry];
  const ended = new Counter({
    name: "typevisor_migrations_total",
    help: "Live migrations that ended, by result: Succeeded, Failed or Cancelled.",
    labelNames: ["result"],
    registers,
  });
  // A first one would not be seen by increase().
  for (const result of finalMigrationPhases) ended.inc({ result }, 0);
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
      for (const { status } of movesOf(world())) this.inc({ phase: status?.phase ?? "Pending" });
    },
  });
  let phases: Phases = new Map();
  new Gauge({
    name: "typevisor_migrations_longest_in_phase_seconds",
    help: "How long the VirtualMachineMigration that is longest in a phase has been in it, as far as this replica has seen. Phases that migrations end in are left out.",
    labelNames: ["phase"],
    registers,
    collect() {
      phases = phasesOf(movesOf(world()), phases, nowMs());
      this.reset();
      for (const [phase, sinceMs] of earliest(phases)) this.set({ phase }, (nowMs() - sinceMs) / 1000);
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

/** UID of a migration that has not ended -> the phase that it is in, and since when it was seen there. */
type Phases = ReadonlyMap<string, { readonly phase: string; readonly sinceMs: number }>;

function phasesOf(migrations: Iterable<StoredMigration>, before: Phases, nowMs: number): Phases {
  return new Map(
    [...migrations].flatMap(({ metadata: { uid = "" }, status }) => {
      const phase = status?.phase ?? "Pending";
      if (finalMigrationPhases.has(phase)) return [];
      const known = before.get(uid);
      return [[uid, known?.phase === phase ? known : { phase, sinceMs: nowMs }] as const];
    }),
  );
}

function earliest(phases: Phases): Map<string, number> {
  const found = new Map<string, number>();
  for (const { phase, sinceMs } of phases.values())
    found.set(phase, Math.min(sinceMs, found.get(phase) ?? Number.POSITIVE_INFINITY));
  return found;
}
