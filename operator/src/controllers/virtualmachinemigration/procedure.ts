import { unsettledDisks } from "../virtualmachine/moved-disks.ts";
import { annotations } from "../virtualmachine/names.ts";
import { isFinished } from "../virtualmachine/observe.ts";
import { knownClaims } from "./claims-in-force.ts";
import type { Side } from "./observation.ts";
import type { Action, Plan, Where } from "./plan.ts";
import { requestOf, type Situation } from "./situation.ts";
import { whatTargetWaitsFor } from "./target-waits.ts";
import { hasBegun, isReachable } from "./views.ts";

/** One step of a procedure. Which one a migration is at is found out anew in each pass, from what is there. */
export interface Step {
  readonly name: string;
  /** What the step is for is not so yet. */
  readonly shouldDo: (situation: Situation) => boolean;
  /** What brings it about, or what is said while it is waited for. */
  readonly do: (situation: Situation) => Plan;
}

const ASK_MS = 500;
const ASK_SOON_MS = 100;
const REFUSED_DELAY_MS = 5_000;
/** How long the source may take to end by itself, with its figures in its last word. */
const LEAVE_LIMIT_MS = 15_000;

/** Towards a machine that runs in the target. */
export const forward: readonly Step[] = [
  { name: "make target", shouldDo: ({ seen }) => seen.target === undefined, do: makeTarget },
  { name: "target listens", shouldDo: ({ target }) => target === "absent", do: awaitTarget },
  { name: "machine knows", shouldDo: isToBeRecorded, do: awaitRecord },
  { name: "source sends", shouldDo: isToStart, do: startSource },
  { name: "hand over", shouldDo: ({ isMoved }) => !isMoved, do: awaitHandOver },
  { name: "take over", shouldDo: ({ seen }) => !hasTakenOver(seen.target), do: takeOver },
  { name: "source leaves", shouldDo: ({ seen }) => seen.source !== undefined, do: removeSource },
];

/** Back to a machine that runs in the source, or in neither. */
export const back: readonly Step[] = [
  { name: "source stops", shouldDo: (situation) => !hasStopped(situation), do: stopSource },
  { name: "remove target", shouldDo: ({ seen }) => seen.target !== undefined, do: removeTarget },
];

/**
 * The source sends nothing for this migration, never will, and the target does not run by what it has sent. One that is gone
 * says nothing of that: the target has to.
 */
function hasStopped({ source, target, decided }: Situation): boolean {
  if (source === "idle" || source === "Failed") return true;
  const isOver = target === "gone" || target === "Failed" || decided === "neither";
  return source === "Gone" ? isOver : source === "gone" && target !== "unreachable";
}

function makeTarget({ seen, targetName, nowMs }: Situation): Plan {
  const preparing = { phase: "Preparing", reason: "MigrationPreparing" } as const;
  const { inTheWay, refusal } = seen;
  if (inTheWay !== undefined) {
    return {
      ...preparing,
      message: `Pod ${inTheWay.metadata?.name} has the name of the machine's next one, and has to go first`,
    };
  }
  if (refusal !== undefined) {
    const againAtMs = refusal.atMs + REFUSED_DELAY_MS * Math.min(6, refusal.count);
    if (nowMs < againAtMs) return { ...preparing, message: refusal.message, wakeAtMs: againAtMs };
  }
  const message = refusal?.message ?? `Pod ${targetName} is being made`;
  return { ...preparing, message, after: [{ kind: "create-target", name: targetName }] };
}

function awaitTarget(situation: Situation): Plan {
  const { seen } = situation;
  return {
    phase: "Preparing",
    reason: "MigrationPreparing",
    message: whatTargetWaitsFor(situation),
    before: follow(ASK_SOON_MS, seen.target),
  };
}

/**
 * The machine's record does not say yet that its disks are on their way: once a guest may run on other claims, no start of it may
 * be without knowing.
 */
function isToBeRecorded({ seen, isMoved, source }: Situation): boolean {
  const { migration, vm } = seen;
  const isRecorded = ({ disk, claimName }: { readonly disk: string; readonly claimName: string }) =>
    vm?.status?.movedDisks?.some(
      (moved) =>
        moved.name === disk && moved.nextClaimName === claimName && moved.migrationUID === migration.metadata.uid,
    ) === true;
  const isRunning = source === "idle" || source === "unreachable";
  return !isMoved && isRunning && !hasBegun(seen) && migration.spec.targetClaims?.every(isRecorded) === false;
}

function awaitRecord({ seen }: Situation): Plan {
  return {
    phase: "Preparing",
    reason: "MigrationPreparing",
    message: "It is being recorded at the machine that its disks move to other claims",
    before: follow(ASK_MS, seen.source, seen.target),
  };
}

/** It does nothing yet, or has not been asked. */
function isToStart({ source, isMoved, seen }: Situation): boolean {
  const isUnheard = source === "unreachable" && seen.source?.heard?.status === undefined;
  return !isMoved && (source === "idle" || (isUnheard && !hasBegun(seen)));
}

function startSource(situation: Situation): Plan {
  const { seen, source } = situation;
  const where = whereOf(seen.source);
  const request = requestOf(situation);
  const start: Action[] =
    source !== "idle" || where === undefined || request === undefined ? [] : [{ kind: "start", where, request }];
  const message = "The machine's launcher is told to move it";
  return {
    phase: "Preparing",
    reason: "MigrationPreparing",
    message,
    after: [...start, ...follow(ASK_MS, seen.source, seen.target)],
  };
}

function awaitHandOver({ seen, source, target, decided, outcome }: Situation): Plan {
  const { status } = seen.source?.heard ?? {};
  const wasCopying = source === "unreachable" && seen.migration.status?.phase === "Copying";
  const copies = source === "Connecting" || source === "Copying" || wasCopying;
  // It may not have noticed yet that no Commit comes, and an older one may never.
  const tell = decided === "target" ? tellTarget("target", target, seen.target) : [];
  if (copies) {
    const message = status?.message ?? outcome.message;
    const before = follow(ASK_MS, seen.source, seen.target);
    return { phase: "Copying", reason: "Migrating", message: sentence(message), before };
  }
  return {
    phase: "HandingOver",
    reason: "MigrationHandingOver",
    message: `The old pod is ${source}, the new one ${target}`,
    before: follow(ASK_SOON_MS, seen.source, seen.target),
    after: tell,
  };
}

function takeOver({ seen, source, decided }: Situation): Plan {
  const pod = seen.target?.pod;
  const { uid = "", name = "" } = pod?.metadata ?? {};
  const tell = decided === "target" && source === "Undecided" ? telling("target", seen.source) : [];
  return {
    phase: "Finishing",
    reason: "MigrationFinishing",
    message: `The machine runs in pod ${name}`,
    after: [...tell, { kind: "take-over", podUID: uid, podName: name }],
  };
}

function removeSource({ seen, source, decided, nowMs }: Situation): Plan {
  const pod = seen.source?.pod;
  const name = pod?.metadata?.name;
  const finishing = {
    phase: "Finishing",
    reason: "MigrationFinishing",
    message: `The machine runs in pod ${seen.target?.pod.metadata?.name}; pod ${name} is ending`,
  } as const;
  if (decided === "target" && source === "Undecided") {
    return { ...finishing, before: follow(ASK_MS, seen.source), after: telling("target", seen.source) };
  }
  const tookOverAtMs = Date.parse(seen.target?.pod.metadata?.annotations?.[annotations.tookOver] ?? "");
  const untilMs = (Number.isNaN(tookOverAtMs) ? 0 : tookOverAtMs) + LEAVE_LIMIT_MS;
  if (pod !== undefined && !isFinished(pod) && nowMs < untilMs) return { ...finishing, wakeAtMs: untilMs };
  return { ...finishing, after: removal(seen.source, "The machine has moved") };
}

function stopSource({ seen, source, target, decided, outcome }: Situation): Plan {
  const where = whereOf(seen.source);
  const cancelling = { phase: "Cancelling", reason: outcome.reason, message: outcome.message } as const;
  const before = follow(ASK_MS, seen.source, seen.target);
  if (source === "Undecided") {
    if (decided === "neither") return { ...cancelling, before, after: telling("neither", seen.source) };
    const targetKnows = target === "Failed" || target === "gone";
    const next = targetKnows ? telling("source", seen.source) : tellTarget("source", target, seen.target);
    if (decided === "target") return { ...cancelling, before, after: telling("target", seen.source) };
    return { ...cancelling, before, after: decided === "source" ? next : [] };
  }
  const mayBeCancelled = source === "Connecting" || source === "Copying" || source === "HandingOver";
  return {
    ...cancelling,
    before,
    after: mayBeCancelled && where !== undefined ? [{ kind: "cancel", where }] : [],
  };
}

function removeTarget(situation: Situation): Plan {
  const { seen, target, decided, outcome } = situation;
  const cancelling = { phase: "Cancelling", reason: outcome.reason, message: outcome.message } as const;
  // It must know before it goes that it is not to go on: a launcher that is asked to stop is not one that has stopped.
  const tell = decided === "source" ? tellTarget("source", target, seen.target) : [];
  const note = noteOfStay(situation);
  return { ...cancelling, after: [...tell, ...note, ...removal(seen.target, "The machine does not come here")] };
}

/** Where its object may be gone by then, the pod that is left says that its disks are the ones that count. */
function noteOfStay(situation: Situation): Action[] {
  const { migration, vm, source } = situation.seen;
  const { uid } = migration.metadata;
  const isAsked = unsettledDisks(vm?.status?.movedDisks ?? []).some(({ migrationUID }) => migrationUID === uid);
  const { uid: podUID = "", name: podName = "", annotations: marks } = source?.pod.metadata ?? {};
  if (!isAsked || source === undefined || isFinished(source.pod) || marks?.[annotations.stays] === uid) return [];
  return knownClaims(situation) === "Source" ? [{ kind: "note-stay", podUID, podName }] : [];
}

function tellTarget(winner: "source" | "target", target: string, side: Side | undefined): Action[] {
  return target === "Undecided" || target === "Prepared" ? telling(winner, side) : [];
}

function telling(winner: "source" | "target" | "neither", side: Side | undefined): Action[] {
  const where = whereOf(side);
  return where === undefined ? [] : [{ kind: "tell", where, winner }];
}

/** A pod on a node that is off for sure goes without being asked. */
function removal(side: Side | undefined, note: string): Action[] {
  if (side === undefined) return [];
  const { uid = "", name = "", deletionTimestamp } = side.pod.metadata ?? {};
  const force = deletionTimestamp !== undefined && side.node?.outOfService === true;
  if (deletionTimestamp !== undefined && !force) return [];
  return [{ kind: "delete-pod", podUID: uid, podName: name, force, note }];
}

function follow(intervalMs: number, ...sides: readonly (Side | undefined)[]): Action[] {
  return sides.flatMap((side): Action[] => {
    const where = whereOf(side);
    return where === undefined ? [] : [{ kind: "follow", where, intervalMs }];
  });
}

/** Undefined where there is nobody to speak to. */
function whereOf(side: Side | undefined): Where | undefined {
  const ip = side?.pod.status?.podIP;
  if (side === undefined || ip === undefined || !isReachable(side)) return undefined;
  return { podUID: side.pod.metadata?.uid ?? "", ip };
}

function hasTakenOver(side: Side | undefined): boolean {
  return side === undefined || side.pod.metadata?.annotations?.[annotations.tookOver] !== undefined;
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
