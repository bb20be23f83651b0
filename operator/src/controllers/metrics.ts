import { collectDefaultMetrics, type Registry } from "prom-client";
import { type CertificateExpiry, certificateMetrics } from "../certificates/metrics.ts";
import { buildInfo } from "../runtime/build-info.ts";
import { type ClientMetrics, clientMetrics } from "../runtime/client-metrics.ts";
import { leaderMetrics } from "../runtime/leader-metrics.ts";
import { type PassFailed, passMetrics } from "../runtime/pass-metrics.ts";
import { type WorkQueueMetrics, workQueueMetrics } from "../runtime/work-queue-metrics.ts";
import { operatorVersion } from "../version.ts";
import { type EvictionMetrics, evictionMetrics } from "./eviction/metrics.ts";
import { type VirtualMachineMetrics, virtualMachineMetrics } from "./virtualmachine/metrics.ts";
import type { World } from "./virtualmachine/observe.ts";
import { type MigrationMetrics, migrationMetrics } from "./virtualmachinemigration/metrics.ts";

/** What gauges look at when they are scraped. */
export interface ControllersSubjects {
  /** Name of the lease of leader election. */
  readonly lease: string;
  readonly world: () => World;
  readonly certificates: () => CertificateExpiry;
  /** When the certificate of the webhook ends, in milliseconds since the epoch. */
  readonly webhookNotAfterMs: () => number | undefined;
  readonly nowMs: () => number;
}

export interface ControllersMetrics {
  readonly client: ClientMetrics;
  readonly queue: (name: string) => WorkQueueMetrics;
  /** Counts failed passes of the controller of that name. */
  readonly passFailed: (controller: string) => PassFailed;
  readonly virtualMachines: VirtualMachineMetrics;
  readonly evictions: EvictionMetrics;
  readonly migrations: MigrationMetrics;
  readonly leads: (leads: boolean) => void;
}

/** All that /metrics of the controllers tells; docs/metrics.md is generated from it. */
export function controllersMetrics(registry: Registry, subjects: ControllersSubjects): ControllersMetrics {
  collectDefaultMetrics({ register: registry });
  buildInfo(registry, "controllers", operatorVersion);
  certificateMetrics(registry, subjects.certificates);
  return {
    client: clientMetrics(registry),
    queue: workQueueMetrics(registry),
    passFailed: passMetrics(registry),
    virtualMachines: virtualMachineMetrics(registry, subjects.world, subjects.nowMs),
    evictions: evictionMetrics(registry, subjects.webhookNotAfterMs),
    migrations: migrationMetrics(registry, subjects.world, subjects.nowMs),
    leads: leaderMetrics(registry, subjects.lease),
  };
}
