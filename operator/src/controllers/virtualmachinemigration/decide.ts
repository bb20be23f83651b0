import {
  decideHandOver,
  type HandOverDecision,
  type SourceView,
  type TargetView,
} from "../../../../launcher/api/migration.ts";
import { formatTime } from "../../runtime/clock.ts";
import { unsettledDisks } from "../virtualmachine/moved-disks.ts";
import { isFinished } from "../virtualmachine/observe.ts";
import { lastWordOf, parseTerminationMessage } from "../virtualmachine/termination.ts";
import { beforeTurn } from "./before-turn.ts";
import { withClaims } from "./claims-in-force.ts";
import { FINALIZER } from "./names.ts";
import type { Observation } from "./observation.ts";
import type { Action, Decision, Plan } from "./plan.ts";
import { back, forward, type Step } from "./procedure.ts";
import type { MigrationSettings } from "./settings.ts";
import { deadlineAtMs, type Outcome, type Situation, situationOf } from "./situation.ts";
import { writing } from "./status.ts";
import { isOver } from "./stored.ts";
import { whatTargetWaitsFor } from "./target-waits.ts";
import { hasBegun, isUnasked } from "./views.ts";

/** How long the target's pod may take until its launcher listens. */
const PREPARE_LIMIT_MS = 5 * 60_000;
/** The launcher keeps the deadline; this is for one that does not answer. */
const DEADLINE_MARGIN_MS = 30_000;

/** What to do about one migration: a pure function of what was observed, the settings and the time. */
export function decide(observation: Observation, settings: MigrationSettings, nowMs: number): Decision {
  const { migration } = observation;
  if (migration.metadata.finalizers?.includes(FINALIZER) === true) return { actions: [{ kind: "remove-finalizer" }] };
  if (isOver(migration)) return afterEnd(observation, settings, nowMs);
  if (migration.status?.startedAt === undefined) {
    return carriedOut(observation, beforeTurn(observation, nowMs), nowMs);
  }
  const situation = situationOf(observation, settings, nowMs);
  return carriedOut(observation, planOf(situation), nowMs);
}

function carriedOut(observation: Observation, plan: Plan, nowMs: number): Decision {
  const actions = [...(plan.before ?? []), ...writing(observation, plan, nowMs), ...(plan.after ?? [])];
  return { actions, wakeAtMs: plan.wakeAtMs };
}

function planOf(situation: Situation): Plan {
  const decision = toBeDecided(situation);
  if (decision !== undefined) return recording(situation, decision);
  const { isMoved, decided, seen, nowMs } = situation;
  if (!isMoved && decided !== "target") {
    const isBack = decided !== undefined || seen.migration.status?.phase === "Cancelling";
    if (isBack) return goingBack(situation);
    const outcome = reasonToTakeBack(situation);
    if (outcome !== undefined) return { phase: "Cancelling", ...outcome };
  }
  if (decided === "target" && situation.target === "gone") {
    return goingBack({ ...situation, outcome: endOfBoth(situation, LOST) });
  }
  const plan = procedure(forward, situation);
  if (plan === undefined) return withClaims(succeeded(situation), situation);
  const wakes = [plan.wakeAtMs, ...limits(situation)].filter((atMs) => atMs !== undefined && atMs > nowMs);
  return { ...plan, ...(wakes.length === 0 ? {} : { wakeAtMs: Math.min(...wakes.map(Number)) }) };
}

function goingBack(situation: Situation): Plan {
  return withClaims(procedure(back, situation) ?? taken(situation), situation);
}

/** The first step that is not done; undefined where all are. */
function procedure(steps: readonly Step[], situation: Situation): Plan | undefined {
  return steps.find((step) => step.shouldDo(situation))?.do(situation);
}

/** What neither side can know, and nobody has decided yet. */
function toBeDecided({ source, target, decided, noted, seen }: Situation): HandOverDecision | undefined {
  if (decided !== undefined || (seen.target === undefined && target === "absent")) return undefined;
  if (noted !== undefined) return noted;
  const needsNobody = target === "Running" && source !== "Undecided";
  const views: [SourceView, TargetView] = [
    source === "idle" ? "unreachable" : source,
    target === "absent" ? "unreachable" : target,
  ];
  return needsNobody ? undefined : (decideHandOver(...views) ?? undefined);
}

/** Recorded before anyone is told: the next pass does that. On the new pod as well, since somebody may delete the migration. */
function recording(situation: Situation, decision: HandOverDecision): Plan {
  return { ...whatIsDecided(situation, decision), before: noting(situation, decision) };
}

function noting({ seen, noted }: Situation, decision: HandOverDecision): Action[] {
  const { uid: podUID = "", name: podName = "" } = seen.target?.pod.metadata ?? {};
  return seen.target === undefined || noted === decision ? [] : [{ kind: "note-decision", podUID, podName, decision }];
}

function whatIsDecided(situation: Situation, decision: HandOverDecision): Plan {
  const { source, target, nowMs, seen } = situation;
  const message = `The old pod was ${source}, the new one ${target}`;
  const handOver = { decision, message, decidedAt: formatTime(nowMs) };
  if (decision === "target") {
    const said = `The link broke in the hand-over; the machine goes on in pod ${seen.migration.status?.target?.podName}`;
    return { phase: "HandingOver", reason: "MigrationHandingOver", message: said, changes: { handOver } };
  }
  const outcome: Outcome =
    decision === "source"
      ? {
          reason: "MigrationFailed",
          message: `The link broke in the hand-over (${message}); the machine goes on where it was`,
        }
      : endOfBoth(
          situation,
          `The machine was lost in the middle (${message}); spec.runStrategy says whether it starts afresh`,
        );
  return { phase: "Cancelling", ...outcome, changes: { handOver } };
}

const LOST = "Both pods of the machine have ended; spec.runStrategy says whether it starts afresh";

/** A machine that was switched off in the middle is not lost. */
function endOfBoth({ seen }: Situation, lost: string): Outcome {
  return reasonNotToMove(seen) ?? { reason: "MigrationLost", message: lost };
}

/** What somebody has decided that ends a migration; undefined where it is still wanted. */
function reasonNotToMove({ migration, vm }: Observation): Outcome | undefined {
  if (migration.metadata.deletionTimestamp !== undefined) return cancelled("The migration was deleted");
  if (vm === undefined || vm.metadata.deletionTimestamp !== undefined) return cancelled("The machine is being deleted");
  if (vm.spec.runStrategy === "Halted") return cancelled("The machine is to be off, as spec.runStrategy is Halted");
  return undefined;
}

function cancelled(message: string): Outcome {
  return { reason: "MigrationCancelled", message };
}

/** Why the machine stays where it is; undefined where the migration goes on, or it is too late. */
function reasonToTakeBack(situation: Situation): Outcome | undefined {
  const { seen, source, target, nowMs, settings } = situation;
  const { migration } = seen;
  if (source === "Committed" || source === "Undecided") return undefined;
  if (source === "Gone") {
    return target === "gone" ? endOfBoth(situation, LOST) : undefined;
  }
  const unwanted = reasonNotToMove(seen);
  if (unwanted !== undefined) return unwanted;
  const pod = seen.source?.pod;
  if (pod === undefined || isFinished(pod)) {
    // A pod that is drained goes right after its last word: the target knows whether the machine runs there.
    return target === "unreachable" && hasBegun(seen) ? undefined : cancelled("The machine has ended");
  }
  if (pod.metadata?.deletionTimestamp !== undefined) return cancelled(`Pod ${pod.metadata.name} was deleted`);
  const failed = (message: string): Outcome => ({ reason: "MigrationFailed", message });
  if (target === "absent" && seen.target === undefined && seen.targetClaimProblem !== undefined)
    return { reason: "TargetClaimInvalid", message: seen.targetClaimProblem };
  if (source === "Failed") return failed(seen.source?.heard?.status?.message ?? "The machine's launcher gave up");
  if (target === "gone" || target === "Failed") {
    const word = seen.target && parseTerminationMessage(lastWordOf(seen.target.pod))?.message;
    return failed(`Pod ${migration.status?.target?.podName} has ended${word === undefined ? "" : `: ${word}`}`);
  }
  if (source === "idle" || source === "unreachable") {
    const untilMs = prepareLimitMs(situation);
    const isPreparing = target === "absent" && !isUnasked(seen.target);
    if (isPreparing && nowMs >= untilMs) {
      const why =
        seen.target === undefined
          ? (seen.refusal?.message ?? "its pod could not be made")
          : whatTargetWaitsFor(situation);
      return {
        reason: "TargetNotReady",
        message: `Nothing listens after ${Math.round((untilMs - startedAtMs(situation)) / 1000)} s: ${why}`,
      };
    }
  }
  const lateMs = deadlineAtMs(migration, settings) + DEADLINE_MARGIN_MS;
  return nowMs >= lateMs ? failed(`Not done by its deadline; the old pod is ${source}`) : undefined;
}

function startedAtMs({ seen }: Situation): number {
  return Date.parse(seen.migration.status?.startedAt ?? "");
}

function prepareLimitMs(situation: Situation): number {
  const { seen, settings } = situation;
  return Math.min(startedAtMs(situation) + PREPARE_LIMIT_MS, deadlineAtMs(seen.migration, settings));
}

/** When time alone changes something. */
function limits(situation: Situation): number[] {
  const { seen, settings } = situation;
  return [prepareLimitMs(situation), deadlineAtMs(seen.migration, settings) + DEADLINE_MARGIN_MS];
}

function succeeded({ seen }: Situation): Plan {
  const { target, source } = seen.migration.status ?? {};
  const message = `The machine has moved from node ${source?.node} to node ${target?.node}`;
  return { phase: "Succeeded", reason: "MigrationSucceeded", message };
}

/** All is as it was, or ended. */
function taken({ outcome }: Situation): Plan {
  return { phase: outcome.reason === "MigrationCancelled" ? "Cancelled" : "Failed", ...outcome };
}

function afterEnd(observation: Observation, settings: MigrationSettings, nowMs: number): Decision {
  const { migration } = observation;
  const { metadata, spec, status } = migration;
  // Until the machine knows which claims it is on, this is where that is written.
  if (isWaitedFor(observation)) return { actions: [] };
  const ttlMs = 1000 * (spec.ttlSecondsAfterFinished ?? settings.ttlSeconds);
  const endsAtMs = Date.parse(status?.completedAt ?? "") + ttlMs;
  if (metadata.deletionTimestamp !== undefined || Number.isNaN(endsAtMs)) return { actions: [] };
  return nowMs >= endsAtMs ? { actions: [{ kind: "delete-migration" }] } : { actions: [], wakeAtMs: endsAtMs };
}

function isWaitedFor({ migration, vm }: Observation): boolean {
  const { status } = migration;
  return (
    vm?.metadata.deletionTimestamp === undefined &&
    status?.claimsInForce !== undefined &&
    status.claimsInForce !== "Undecided" &&
    unsettledDisks(vm?.status?.movedDisks ?? []).some(({ migrationUID }) => migrationUID === migration.metadata.uid)
  );
}
