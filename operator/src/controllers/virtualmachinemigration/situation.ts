import { parseQuantity } from "../../../../crds/src/quantity.ts";
import type { Reason } from "../../../../crds/src/reasons.ts";
import type { HandOverDecision, MigrationRequest } from "../../../../launcher/api/migration.ts";
import { notedDecision } from "../virtualmachine/launcher-pods.ts";
import { LAUNCHER_CONTAINER, podNamesOf } from "../virtualmachine/names.ts";
import { isFinished } from "../virtualmachine/observe.ts";
import type { Observation } from "./observation.ts";
import type { MigrationSettings } from "./settings.ts";
import { type SourceIs, sourceIs, type TargetIs, targetIs } from "./views.ts";

/** How a migration ends that does not succeed. */
export interface Outcome {
  readonly reason: Reason;
  readonly message: string;
}

/** A migration whose turn has come, as it stands. */
export interface Situation {
  readonly seen: Observation;
  readonly settings: MigrationSettings;
  readonly nowMs: number;
  readonly source: SourceIs;
  readonly target: TargetIs;
  /** What was decided, as the migration says; and as its target's pod does, which was told first. */
  readonly decided: HandOverDecision | undefined;
  readonly noted: HandOverDecision | undefined;
  /** The machine runs in the target, or has done so. */
  readonly isMoved: boolean;
  /** Why it is taken back, where it is. */
  readonly outcome: Outcome;
  readonly targetName: string;
}

export function situationOf(seen: Observation, settings: MigrationSettings, nowMs: number): Situation {
  const source = sourceIs(seen);
  const target = targetIs(seen);
  const [first, second] = podNamesOf(seen.migration.spec.virtualMachineName);
  const isMoved =
    target === "Running" ||
    // It ended so soon that nobody saw it run; its end is the machine's.
    (source === "Gone" && target === "gone" && seen.target !== undefined && isFinished(seen.target.pod));
  return {
    seen,
    settings,
    nowMs,
    source,
    target,
    decided: seen.migration.status?.handOver?.decision,
    noted: notedDecision(seen.target?.pod),
    isMoved,
    outcome: recordedOutcome(seen),
    targetName: seen.migration.status?.source?.podName === first ? second : first,
  };
}

/** A migration that is being taken back has in its Ready condition why. */
function recordedOutcome({ migration }: Observation): Outcome {
  const ready = migration.status?.conditions?.find(({ type }) => type === "Ready");
  return { reason: (ready?.reason ?? "MigrationFailed") as Reason, message: ready?.message ?? "" };
}

/** What the source is asked for: the migration's own wishes before the cluster's policy. */
export function requestOf({ seen, settings, nowMs }: Situation): MigrationRequest | undefined {
  const { migration, target } = seen;
  const { spec, metadata } = migration;
  const address = target?.pod.status?.podIP;
  const ports = target?.pod.spec?.containers.find(({ name }) => name === LAUNCHER_CONTAINER)?.ports;
  const port = ports?.find(({ name }) => name === "migration")?.containerPort;
  if (address === undefined || port === undefined) return undefined;
  const bandwidth = spec.bandwidth === undefined ? settings.bandwidthBytesPerSecond : parseQuantity(spec.bandwidth);
  return {
    id: metadata.uid ?? "",
    address,
    port,
    maxDowntimeMs: spec.maxDowntimeMilliseconds ?? settings.maxDowntimeMs,
    deadlineMs: Math.max(1, Math.round(deadlineAtMs(migration, settings) - nowMs)),
    autoConverge: spec.autoConverge ?? settings.autoConverge,
    ...(bandwidth === undefined ? {} : { bandwidthBytesPerSecond: Math.floor(bandwidth) }),
  };
}

/** When a migration is given up, in milliseconds since the epoch. */
export function deadlineAtMs({ spec, status }: Observation["migration"], settings: MigrationSettings): number {
  return Date.parse(status?.startedAt ?? "") + 1000 * (spec.deadlineSeconds ?? settings.deadlineSeconds);
}
