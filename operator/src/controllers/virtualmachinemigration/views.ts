import type { MigrationPhase } from "../../../../crds/src/virtualmachinemigration.ts";
import type { SourceView, TargetView } from "../../../../launcher/api/migration.ts";
import type { Pod } from "../../runtime/wire.ts";
import { containerEnd } from "../container-end.ts";
import { annotations, LAUNCHER_CONTAINER } from "../virtualmachine/names.ts";
import { isFinished } from "../virtualmachine/observe.ts";
import { lastWordOf, parseTerminationMessage } from "../virtualmachine/termination.ts";
import type { Observation, Side } from "./observation.ts";

/** `idle`: it answers, and does nothing for this migration. */
export type SourceIs = SourceView | "idle";
/** `absent`: it was not made yet, or its launcher has not spoken yet. */
export type TargetIs = TargetView | "absent";

/** Phases in which the source sends, or has sent: the target listened. */
const HAS_BEGUN: ReadonlySet<string> = new Set<MigrationPhase>(["Copying", "HandingOver", "Finishing"]);

/** The copying has begun, as far as is written. An operator that has only just started has it from its predecessor. */
export function hasBegun({ migration }: Observation): boolean {
  return HAS_BEGUN.has(migration.status?.phase ?? "");
}

/** Its launcher can be asked, and has not answered or failed to yet. */
export function isUnasked(side: Side | undefined): boolean {
  return side !== undefined && side.heard === undefined && isReachable(side);
}

/** There is a launcher to speak to. */
export function isReachable({ pod }: Side): boolean {
  const container = pod.status?.containerStatuses?.find(({ name }) => name === LAUNCHER_CONTAINER);
  return pod.status?.podIP !== undefined && container?.state?.running !== undefined;
}

/** What the source is, from its pod and from what its launcher says. */
export function sourceIs({ source, migration }: Observation): SourceIs {
  if (source === undefined) return "gone";
  if (isFinished(source.pod)) return hasMigrated(source.pod) ? "Gone" : "gone";
  const { status, error } = source.heard ?? {};
  if (status === undefined || error !== undefined) return "unreachable";
  const isOurs = status.role === "source" && status.id === migration.metadata.uid;
  return isOurs ? (status.phase as SourceView) : "idle";
}

/** The launcher said that the machine goes on elsewhere. */
export function hasMigrated(pod: Pod): boolean {
  return parseTerminationMessage(lastWordOf(pod))?.reason === "Migrated";
}

/** What the target is. An answer from before the source went may be from before its last word. */
export function targetIs(observation: Observation): TargetIs {
  const { target, migration, sourceGoneAtMs } = observation;
  if (target === undefined) return migration.status?.target?.podUID === undefined ? "absent" : "gone";
  if (target.pod.metadata?.annotations?.[annotations.tookOver] !== undefined) return "Running";
  if (isFinished(target.pod)) return neverRan(target) ? "Failed" : "gone";
  const { status, error, answeredAtMs = 0 } = target.heard ?? {};
  if (status === undefined && mayBeBusy(observation, target)) return "unreachable";
  if (status?.role === "target" && (status.phase === "Running" || status.phase === "Failed")) return status.phase;
  if (error !== undefined) return status === undefined ? "absent" : "unreachable";
  if (status?.role !== "target") return "absent";
  if (sourceGoneAtMs !== undefined && answeredAtMs <= sourceGoneAtMs) return "unreachable";
  return status.phase as TargetView;
}

/** It was never heard, and that says nothing of what it does. */
function mayBeBusy(observation: Observation, target: Side): boolean {
  if (!isReachable(target)) return false;
  const isTakenBack = observation.migration.status?.phase === "Cancelling";
  return hasBegun(observation) || (isTakenBack && target.heard === undefined);
}

/** A launcher that ends without its machine says so; one that was never started had none. What nobody saw may have run. */
function neverRan({ pod }: Side): boolean {
  const end = containerEnd(pod, LAUNCHER_CONTAINER);
  if (end?.isUnknown) return false;
  if (end?.startedAt === undefined) return true;
  return parseTerminationMessage(lastWordOf(pod))?.reason === "StateInvalid";
}
