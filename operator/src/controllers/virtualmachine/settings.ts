import type { PollingConfig } from "../../../../launcher/api/machine-config.ts";

/** What the administrator set for all machines: the chart's values, resolved. */
export interface Settings {
  /** Image reference of the launcher. */
  readonly launcherImage: string;
  readonly launcherImagePullPolicy: "Always" | "IfNotPresent" | "Never";
  /** Secrets for pulling the launcher's image, in each machine's namespace. */
  readonly launcherImagePullSecrets: readonly string[];
  readonly launcherLogLevel: "debug" | "info" | "warn" | "error";
  /** Profile of the launcher's container; Localhost is the one that node agents put on their nodes. */
  readonly launcherSeccomp: "RuntimeDefault" | "Localhost";
  /** How launchers look for requests to disks; by their own rule when absent. */
  readonly polling?: PollingConfig | undefined;
  readonly overhead: OverheadSettings;
  /** How much a guest may write beside the image of a disk that does not say. */
  readonly overlaySizeLimitBytes: number;
  /** CPU request of a pod, as cores per virtual processor. */
  readonly cpuRatio: number;
  /** Address that launchers listen on, "0.0.0.0" or "::". */
  readonly listenAddress: string;
  /** Port of the Launcher API on the pod IP. */
  readonly controlPort: number;
  /** Port of /healthz, /readyz and /metrics on the pod IP. */
  readonly telemetryPort: number;
  /** Port that a launcher listens on while its machine moves there; the memory comes to the one above. */
  readonly migrationPort: number;
  /** PriorityClass of machines that name none. */
  readonly priorityClassName?: string | undefined;
  /** prometheus.io/* annotations on pods, for clusters where Prometheus finds its targets by them. */
  readonly scrapeAnnotations?: boolean;
}

/**
 * Memory that running a machine costs beyond the guest's own:
 * `fixed + perCpu * cores + perGuestGi * guest memory in GiB`, in whole MiB.
 */
export interface OverheadSettings {
  readonly fixedBytes: number;
  readonly perCpuBytes: number;
  readonly perGuestGiBytes: number;
}

/**
 * What a pod was measured to cost, and a margin (hack/bench/launcher-memory.ts, docs/benchmarks.md). Fixed: the launcher
 * 17 MiB, 28 at its largest, and 11 for each person at the console. A processor: 0.15. A GiB of guest memory in use: 6.8
 * of page tables and the like. Page cache counts for nothing: it is shared, and goes when memory is short.
 */
export const defaultOverhead = { fixed: "48Mi", perCpu: "1Mi", perGuestGi: "8Mi" };
