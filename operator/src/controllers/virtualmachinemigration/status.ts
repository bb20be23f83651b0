import type { Condition } from "../../../../crds/src/condition.ts";
import { formatBytes } from "../../../../crds/src/quantity.ts";
import {
  finalMigrationPhases,
  type VirtualMachineMigrationStatus,
} from "../../../../crds/src/virtualmachinemigration.ts";
import type { MigrationProgress, MigrationResult } from "../../../../launcher/api/migration.ts";
import { parseMigrationResult } from "../../launcher-client/migration-answer.ts";
import { formatTime } from "../../runtime/clock.ts";
import { type ConditionDraft, settleConditions } from "../../runtime/conditions.ts";
import type { EventDraft } from "../../runtime/event-recorder.ts";
import type { Pod } from "../../runtime/wire.ts";
import { lastWordOf } from "../virtualmachine/termination.ts";
import type { Observation, Side } from "./observation.ts";
import type { Action, Plan } from "./plan.ts";

type Status = VirtualMachineMigrationStatus;
type MigrationCondition = Omit<Condition, "type"> & { type: "Ready" | "Reconciling" | "Stalled" };

/** How often progress alone is written. */
const PROGRESS_PERIOD_MS = 5_000;

/** Writes the status that follows from a plan, where it says something new; progress alone waits a while. */
export function writing(observation: Observation, plan: Plan, nowMs: number): Action[] {
  // There is nothing to write it to.
  if (observation.isAbandoned) return [];
  const before = observation.migration.status;
  const status = statusOf(observation, plan, nowMs);
  const isOnlyProgress =
    canonical({ ...before, progress: undefined }) === canonical({ ...status, progress: undefined });
  if (isOnlyProgress && canonical(before?.progress) === canonical(status.progress)) return [];
  if (isOnlyProgress && nowMs < observation.progressWrittenAtMs + PROGRESS_PERIOD_MS) return [];
  return [{ kind: "write-status", status, events: eventsOf(observation, status, plan) }];
}

function statusOf(observation: Observation, plan: Plan, nowMs: number): Status {
  const { migration, source, target } = observation;
  const before = migration.status ?? {};
  const generation = migration.metadata.generation ?? 0;
  const isFinal = finalMigrationPhases.has(plan.phase);
  const heard = source?.heard?.status;
  const progress = heard?.id === migration.metadata.uid ? heard?.progress : undefined;
  const result = resultOf(source?.pod) ?? before.result;
  const targetEnd = target === undefined ? before.target : endOf(target);
  return {
    ...before,
    ...plan.changes,
    observedGeneration: generation,
    phase: plan.phase,
    conditions: settleConditions<MigrationCondition>(before.conditions, drafts(plan, isFinal), generation, nowMs),
    ...(targetEnd === undefined ? {} : { target: targetEnd }),
    ...(progress === undefined ? {} : { progress: progressOf(progress) }),
    ...(result === undefined ? {} : { result }),
    ...(isFinal ? { completedAt: formatTime(nowMs) } : {}),
  };
}

function drafts({ phase, reason, message }: Plan, isFinal: boolean): ConditionDraft<MigrationCondition>[] {
  const cause = { reason, message };
  const no = { status: "False", reason: "AsExpected", message: "" } as const;
  return [
    { type: "Ready", status: phase === "Succeeded" ? "True" : "False", ...cause },
    { type: "Reconciling", ...(isFinal ? no : ({ status: "True", ...cause } as const)) },
    { type: "Stalled", ...(isFinal && phase !== "Succeeded" ? ({ status: "True", ...cause } as const) : no) },
  ];
}

function endOf({ pod }: Side): NonNullable<Status["target"]> {
  const node = pod.spec?.nodeName;
  const { name = "", uid = "" } = pod.metadata ?? {};
  return { ...(node === undefined ? {} : { node }), podName: name, podUID: uid };
}

function progressOf(said: MigrationProgress): NonNullable<Status["progress"]> {
  return {
    rounds: said.rounds,
    transferred: bytes(said.sentBytes + said.diskSentBytes),
    remaining: bytes(said.remainingBytes + said.diskRemainingBytes),
    rate: rate(said.bytesPerSecond),
    dirtyRate: rate(said.dirtyBytesPerSecond),
    throttlePercent: Math.round(said.throttle * 100),
  };
}

/** The last word of a source that has moved its machine. */
function resultOf(pod: Pod | undefined): Status["result"] {
  const said = parseMigrationResult(migrationIn(pod === undefined ? undefined : lastWordOf(pod)));
  return said && resultStatus(said);
}

function migrationIn(text: string | undefined): unknown {
  try {
    return (JSON.parse(text ?? "null") as { migration?: unknown } | null)?.migration;
  } catch {
    return undefined;
  }
}

function resultStatus({ totalMs, downtimeMs, split, sentBytes, diskSentBytes, rounds }: MigrationResult) {
  return {
    totalMilliseconds: totalMs,
    downtimeMilliseconds: downtimeMs,
    downtime: {
      halt: split.haltMs,
      lastPass: split.lastPassMs,
      state: split.stateMs,
      load: split.loadMs,
      resume: split.resumeMs,
    },
    transferred: bytes(sentBytes + diskSentBytes),
    rounds,
  };
}

/** What happened, told at the machine: who looks at it sees why it is where it is. */
function eventsOf({ migration }: Observation, { phase, source }: Status, { reason, message }: Plan): EventDraft[] {
  const before = migration.status;
  const event = (type: EventDraft["type"], note: string): EventDraft => ({ type, reason, action: "Migrate", note });
  const name = `VirtualMachineMigration ${migration.metadata.name}`;
  if (phase === before?.phase) return [];
  if (phase === "Copying") return [event("Normal", `${name} moves the machine away from node ${source?.node}`)];
  if (phase === "Succeeded" || phase === "Cancelled") return [event("Normal", `${name}: ${message}`)];
  return phase === "Failed" ? [event("Warning", `${name}: ${message}`)] : [];
}

const MIB = 2 ** 20;

/** In whole MiB, as people read it; small things as they are. */
function bytes(count: number): string {
  return formatBytes(count < MIB ? count : Math.round(count / MIB) * MIB);
}

function rate(bytesPerSecond: number): string {
  return `${bytes(bytesPerSecond)}/s`;
}

function canonical(value: unknown): string {
  return (
    JSON.stringify(value, (_key, item: unknown) =>
      typeof item === "object" && item !== null && !Array.isArray(item)
        ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
        : item,
    ) ?? ""
  );
}
