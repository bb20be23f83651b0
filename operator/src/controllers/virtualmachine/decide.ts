import type { Reason } from "../../../../crds/src/reasons.ts";
import type { Termination, VirtualMachineStatus } from "../../../../crds/src/status.ts";
import { doubling } from "../../runtime/back-off.ts";
import { formatTime } from "../../runtime/clock.ts";
import { controllerOf, type Pod } from "../../runtime/wire.ts";
import { isOver } from "../virtualmachinemigration/stored.ts";
import { claimProblem, unboundClaim } from "./claim-problems.ts";
import { claimsToMake, claimUpkeep } from "./claim-templates.ts";
import { decideRunning } from "./decide-running.ts";
import { driftedFields, fieldDigests, fieldsForRestart } from "./drift.ts";
import { type HotPlugPlan, hotPlugPlan } from "./hot-plug.ts";
import { type InterfacePlan, interfacePlan } from "./interface-hot-plug.ts";
import { interfaceStatuses } from "./interface-status.ts";
import { relabel } from "./labels.ts";
import { isSameRun } from "./launcher-pods.ts";
import { machineConfig } from "./machine-config.ts";
import { migratableCondition } from "./migratable.ts";
import { migrationView } from "./migration-status.ts";
import { isSameRecord, undecidedMessage, unsettledDisks } from "./moved-disks.ts";
import { annotations, identityOf } from "./names.ts";
import type { Observation } from "./observation.ts";
import { isFinished } from "./observe.ts";
import {
  type Action,
  type Case,
  type Decision,
  deletePod,
  nodeLost,
  off,
  type Plan,
  stalled,
  underWay,
} from "./plan.ts";
import { nameConflict } from "./refusal.ts";
import { countEnd, restartDelayMs, startsAgain } from "./restart.ts";
import type { Settings } from "./settings.ts";
import { SpecError } from "./spec-error.ts";
import { buildStatus, type StatusRecord, sameStatus, type View, type VolumeFacts } from "./status.ts";
import { classOf, lastWordOf, NEEDS_CHANGE, parseTerminationMessage, terminationOf, vanished } from "./termination.ts";
import { transitions } from "./transitions.ts";
import { REASONS_FROM_EVENTS } from "./trouble.ts";
import { type Waiting, whatPodWaitsFor } from "./waiting.ts";

const REFUSED_MIN_DELAY_MS = 5_000;
const REFUSED_MAX_DELAY_MS = 60_000;

/** What to do about one VirtualMachine: a pure function of what was observed, the settings and the time. */
export function decide(observation: Observation, settings: Settings, nowMs: number): Decision {
  const { vm, pod } = observation;
  const previous = vm.status ?? {};
  const kept: StatusRecord = {
    restarts: previous.restarts ?? 0,
    consecutiveCrashes: previous.consecutiveCrashes ?? 0,
    failedStarts: previous.failedStarts ?? 0,
    ...(previous.lastTermination === undefined ? {} : { lastTermination: previous.lastTermination }),
  };
  const plan = planFor({ observation, settings, nowMs, previous, kept });
  const own = pod !== undefined && isOwn(observation, pod) && !isFinished(pod) ? pod : undefined;
  const hotPlug = hotPlugPlan(observation, settings, nowMs);
  const interfaces = own === undefined ? undefined : interfacePlan(observation, settings, nowMs);
  const stuck = interfaces?.stuck ?? {};
  const drift = own === undefined ? [] : fieldsForRestart(own, vm, { settings, stuck: Object.keys(stuck) });
  const actions: Action[] = [...(plan.before ?? [])];
  if (plan.view !== undefined) {
    const status = buildStatus(vm, {
      view: plan.view,
      record: plan.record,
      drift,
      stuck,
      settings,
      volumes: volumeFacts(observation, own, hotPlug),
      device: deviceInTheWay(previous, hotPlug, interfaces),
      interfaces: interfaceStatuses(observation, own),
      migratable: migratableCondition(observation, own, plan.view),
      migration: migrationView(observation.migrations, vm.status, own),
      movedDisks: observation.movedDisks,
      nowMs,
    });
    if (!sameStatus(vm.status, status)) {
      actions.push({ kind: "write-status", status, events: transitions(vm.status, status) });
    }
  }
  actions.push(...(plan.after ?? []));
  if (vm.metadata.deletionTimestamp !== undefined) {
    return { actions, wakeAtMs: plan.wakeAtMs };
  }
  if (own !== undefined && own.metadata?.deletionTimestamp === undefined) {
    actions.push(...relabel(vm, own));
  }
  const upkeep = claimUpkeep(vm, observation.claims, { claimRefusals: observation.claimRefusals, nowMs });
  actions.push(...upkeep.actions, ...hotPlug.actions, ...(interfaces?.actions ?? []));
  const wakes = [plan.wakeAtMs, upkeep.wakeAtMs, hotPlug.wakeAtMs, interfaces?.wakeAtMs].filter(
    (atMs) => atMs !== undefined,
  );
  return { actions, wakeAtMs: wakes.length === 0 ? undefined : Math.min(...wakes) };
}

/** Sizes as the launcher says; after a restart of the operator, as it last said of the same pod. */
function volumeFacts(
  { vm, claims, claimRefusals, launcher }: Observation,
  own: Pod | undefined,
  hotPlug: HotPlugPlan,
): VolumeFacts {
  const isOfSpec = (name: string) => vm.spec.disks.some((disk) => disk.name === name);
  const uid = own?.metadata?.uid;
  const said = launcher?.podUID === uid ? launcher?.status?.disks : undefined;
  if (said !== undefined && !hotPlug.isUnknown) {
    const seenBytes = Object.fromEntries(said.map((disk) => [disk.name, disk.sizeBytes]));
    const started = said.flatMap(({ name, state }) => (state === undefined ? [] : [[name, { state }] as const]));
    const hot = Object.entries(hotPlug.disks).map(([name, { state, message }]) => {
      return [name, { state, ...(message === undefined ? {} : { message }) }] as const;
    });
    const leaving = Object.keys(hotPlug.disks).filter((name) => !isOfSpec(name));
    return { claims, claimRefusals, seenBytes, states: Object.fromEntries([...started, ...hot]), leaving };
  }
  const before = (own !== undefined && isSameRun(own, vm.status?.podUID) ? vm.status?.volumes : undefined) ?? [];
  const states = before.flatMap(({ name, state, message }) =>
    state === undefined ? [] : [[name, { state, ...(message === undefined ? {} : { message }) }] as const],
  );
  return {
    claims,
    claimRefusals,
    seenBytes: Object.fromEntries(before.map((volume) => [volume.name, volume.size])),
    states: Object.fromEntries(states),
    leaving: before.filter(({ name, state }) => state === "Detaching" && !isOfSpec(name)).map(({ name }) => name),
  };
}

/** The first disk or interface that waits for something, in words; as it was where the launcher has not been heard. */
function deviceInTheWay(
  previous: VirtualMachineStatus,
  { disks, isUnknown }: HotPlugPlan,
  interfaces: InterfacePlan | undefined,
): { readonly reason: Reason; readonly message: string } | undefined {
  if (isUnknown) {
    const before = conditionOf(previous, "Reconciling");
    const isOfDevice = before?.status === "True" && /^(Disk|Interface) /.test(before.message);
    return isOfDevice ? { reason: before.reason as Reason, message: before.message } : undefined;
  }
  for (const [name, { reason, message }] of Object.entries(disks)) {
    if (reason !== undefined) return { reason, message: `Disk ${name}: ${message}` };
  }
  for (const [name, { reason, message }] of Object.entries(interfaces?.waits ?? {})) {
    return { reason, message: `Interface ${name}: ${message}` };
  }
  return undefined;
}

function planFor(c: Case): Plan {
  const { vm, pod } = c.observation;
  if (vm.metadata.deletionTimestamp !== undefined) {
    return deleting(c);
  }
  if (mayGoOnElsewhere(c.observation) || isBeingSettled(c.observation)) {
    return whileBeingDecided(c);
  }
  if (pod === undefined) {
    return withoutPod(c);
  }
  if (!isOwn(c.observation, pod)) {
    return withForeignPod(c, pod);
  }
  if (isFinished(pod)) {
    return afterEnd(c, pod);
  }
  const record = recordOf(c, pod);
  if (pod.metadata?.deletionTimestamp !== undefined) {
    return whileStopping(c, pod, record);
  }
  if (vm.spec.runStrategy === "Halted") {
    const stopping = whileStopping(c, pod, record);
    return { ...stopping, before: [deletePod(pod, "Stops the machine, as spec.runStrategy is Halted")] };
  }
  return pod.status?.phase === "Running" ? decideRunning(c, pod, record) : whilePending(c, pod, record);
}

/** Its pod has ended or is gone, and there is one that it was moving to. */
function mayGoOnElsewhere(observation: Observation): boolean {
  const { pod, incoming } = observation;
  return incoming !== undefined && (pod === undefined || !isOwn(observation, pod) || isFinished(pod));
}

/** Its pods are gone or have ended, and its migration is about to say which claims hold its disks. */
function isBeingSettled(observation: Observation): boolean {
  const { pod, migrations, movedDisks } = observation;
  const isUnderWayStill = unsettledDisks(movedDisks).some(({ migrationUID }) =>
    migrations.some((each) => each.metadata.uid === migrationUID && !isOver(each)),
  );
  const hasEnded = pod === undefined || (isOwn(observation, pod) && isFinished(pod));
  return isUnderWayStill && hasEnded;
}

/** What becomes of the machine is the migration's to say: nothing starts meanwhile, and no end is counted. */
function whileBeingDecided(c: Case): Plan {
  const { pod, incoming } = c.observation;
  const { podName, podUID, podIP, node, startedAt, launcherVersion, reboots } = c.previous;
  const seen = { podName, podUID, podIP, node, startedAt, launcherVersion, reboots };
  const record = { ...c.kept, ...Object.fromEntries(Object.entries(seen).filter(([, value]) => value !== undefined)) };
  const hasLeft =
    pod !== undefined && incoming !== undefined && parseTerminationMessage(lastWordOf(pod))?.reason === "Migrated";
  if (hasLeft) {
    const message = `The machine goes on in pod ${incoming?.metadata?.name}, on node ${incoming?.spec?.nodeName}`;
    return { view: { ...underWay("Migrating", message), ready: "True", running: "True" }, record };
  }
  const where =
    incoming === undefined ? "the machine has moved" : `the machine goes on in pod ${incoming.metadata?.name}`;
  const message = `Pod ${podName} has ended, and it is being found out whether ${where}`;
  return { view: { ...underWay("Migrating", message), ready: "Unknown", running: "Unknown" }, record };
}

/** The garbage collector stops the pod; all that is left is to start nothing. */
function deleting(c: Case): Plan {
  const { pod } = c.observation;
  const running = wasRunning(c.previous) ? "True" : "False";
  const view: View = {
    reason: "Deleting",
    message: pod === undefined ? "The VirtualMachine is being deleted" : "The machine stops with its VirtualMachine",
    ready: "False",
    running: pod === undefined ? "False" : running,
    progress: "reconciling",
  };
  return { view, record: pod === undefined ? c.kept : { ...c.kept, ...podFields(pod), ...runFields(c.previous, pod) } };
}

function withoutPod(c: Case): Plan {
  const { vm, refusal } = c.observation;
  const { runStrategy } = vm.spec;
  const end = unrecordedEnd(c);
  const kept: StatusRecord =
    end === undefined ? c.kept : { ...c.kept, ...countEnd(c.previous, end), lastTermination: end };
  const last = kept.lastTermination;
  if (runStrategy === "Halted") {
    return { view: off("Halted", "The machine is off, as spec.runStrategy is Halted"), record: acknowledged(kept) };
  }
  // An end with a UID still decides about the next start; Halted takes the UID away.
  if (last?.podUID !== undefined && !startsAgain(runStrategy, last)) {
    return { view: ended(last, runStrategy), record: kept };
  }
  if (unsettledDisks(c.observation.movedDisks).length > 0) {
    return { view: stalled("DiskUndecided", undecidedMessage(c.observation.movedDisks)), record: kept };
  }
  if (refusal !== undefined && refusal.generation === vm.metadata.generation) {
    const againAtMs = refusal.atMs + doubling(REFUSED_MIN_DELAY_MS, REFUSED_MAX_DELAY_MS, refusal.count);
    if (c.nowMs < againAtMs) {
      const view = (refusal.reason === "ApiError" ? underWay : stalled)(refusal.reason, refusal.message);
      return { view, record: kept, wakeAtMs: againAtMs };
    }
  }
  if (c.observation.attachments.length > 0) {
    // They have the volumes that the next pod is to have, on the node of the last one.
    const names = c.observation.attachments.map((each) => each.metadata?.name).join(", ");
    return { view: underWay("Pending", `Waits until attachment pods have ended: ${names}`), record: kept };
  }
  const claimsFirst = claimsToMake(vm, c.observation.claims);
  if (claimsFirst.length > 0) {
    return { record: kept, before: claimsFirst };
  }
  const waiting = claimProblem(c.observation);
  if (waiting !== undefined) {
    return { view: viewOf(waiting), record: kept };
  }
  const invalid = specProblem(c);
  if (invalid !== undefined) {
    return { view: stalled("SpecInvalid", invalid), record: kept };
  }
  // A pod that came after the last end and went without having run was no start.
  const counted = c.previous.podUID !== undefined && c.previous.podUID !== last?.podUID;
  const startsOver = last !== undefined && classOf(last) !== "never-started" && !counted;
  const restarts = (kept.restarts ?? 0) + (startsOver ? 1 : 0);
  const start: Action = { kind: "start", restarts, claims: c.observation.claims };
  if (end !== undefined)
    return { view: underWay("Restarting", `Starts again: ${end.message}`), record: kept, after: [start] };
  // The pod is on the claims that the record gives it, and the record is kept for as long as the pod is: it comes first.
  return isSameRecord(c.previous.movedDisks, c.observation.movedDisks)
    ? { record: kept, before: [start] }
    : { view: underWay("Pending", "The machine's pod is about to be made"), record: kept, after: [start] };
}

/** A machine that ran when it was last seen, and whose pod is gone without an end that was recorded. */
function unrecordedEnd({ previous, observation }: Case): Termination | undefined {
  const { podUID, startedAt, lastTermination } = previous;
  if (podUID === undefined || startedAt === undefined || lastTermination?.podUID === podUID) {
    return undefined;
  }
  const { departed, vm } = observation;
  if (departed?.metadata?.uid === podUID && isFinished(departed)) {
    return terminationOf(departed, previous, vm.spec.runStrategy === "Halted");
  }
  return vanished(previous, podUID, conditionOf(previous, "Running")?.reason === "NodeLost");
}

function withForeignPod(c: Case, pod: Pod): Plan {
  const { name } = identityOf(c.observation.vm);
  const owner = controllerOf(pod);
  if (owner?.kind === "VirtualMachine" && owner.name === name) {
    const message = `Waits until pod ${pod.metadata?.name} of the former VirtualMachine ${name} has ended`;
    return { view: underWay("Pending", message), record: c.kept };
  }
  return { view: stalled("NameConflict", nameConflict(name)), record: c.kept };
}

function afterEnd(c: Case, pod: Pod): Plan {
  const { vm } = c.observation;
  const uid = pod.metadata?.uid ?? "";
  const recorded = c.previous.lastTermination?.podUID === uid ? c.previous.lastTermination : undefined;
  const end = recorded ?? terminationOf(pod, c.previous, vm.spec.runStrategy === "Halted");
  const counters = recorded === undefined ? countEnd(c.previous, end) : {};
  const { podIP: _, ...where } = podFields(pod);
  const restarts = restartsOf(pod, c.previous);
  const record: StatusRecord = { ...c.kept, ...where, ...counters, restarts, lastTermination: end };
  const { runStrategy } = vm.spec;
  if (runStrategy === "Halted") {
    return {
      view: underWay("Stopping", "The machine has ended; its pod is being deleted"),
      record,
      after: removal(pod),
    };
  }
  if (!startsAgain(runStrategy, end)) {
    return { view: ended(end, runStrategy), record };
  }
  const counts = { consecutiveCrashes: record.consecutiveCrashes ?? 0, failedStarts: record.failedStarts ?? 0 };
  const changed = fieldsForRestart(pod, vm, { settings: c.settings, stuck: [] }).length > 0;
  const startAtMs = changed ? c.nowMs : nextStartMs(c, restartDelayMs(end, counts), recorded !== undefined);
  if (c.nowMs >= startAtMs) {
    return { view: underWay("Restarting", `Starts again: ${end.message}`), record, after: removal(pod) };
  }
  const nextStartTime = formatTime(Math.ceil(startAtMs / 1000) * 1000);
  return { view: backingOff(end, counts, nextStartTime), record: { ...record, nextStartTime }, wakeAtMs: startAtMs };
}

/** From when the end was seen: its own time stamp is of the node's clock, which may be minutes off. */
function nextStartMs({ nowMs, previous }: Case, delayMs: number, isRecorded: boolean): number {
  if (!isRecorded) return nowMs + delayMs;
  const saidMs = Date.parse(previous.nextStartTime ?? "");
  return Number.isNaN(saidMs) ? nowMs : Math.min(saidMs, nowMs + delayMs);
}

function removal(pod: Pod): Action[] {
  return pod.metadata?.deletionTimestamp === undefined
    ? [deletePod(pod, "Removes the pod of a machine that ended")]
    : [];
}

function backingOff(
  end: Termination,
  counts: { readonly consecutiveCrashes: number; readonly failedStarts: number },
  nextStartTime: string,
): View {
  const when = `starts again at ${nextStartTime}`;
  switch (classOf(end)) {
    case "crash": {
      const message = `${end.reason}: ${end.message} (${counts.consecutiveCrashes} in a row; ${when})`;
      const progress = NEEDS_CHANGE.has(end.reason) ? "stalled" : "reconciling";
      return { ...underWay(progress === "stalled" ? (end.reason as Reason) : "CrashBackOff", message), progress };
    }
    case "never-started":
      return underWay("StartBackOff", `${end.reason}: ${end.message} (${counts.failedStarts} in a row; ${when})`);
    default:
      return underWay("Restarting", `${end.message}; ${when}`);
  }
}

function whileStopping(c: Case, pod: Pod, record: StatusRecord): Plan {
  const { node, vm } = c.observation;
  const running = wasRunning(c.previous) && c.previous.podUID === pod.metadata?.uid ? "True" : "False";
  if (node === null || node?.ready === "Unknown") {
    const gone = node?.outOfService === true && pod.metadata?.deletionTimestamp !== undefined;
    const after = gone ? [deletePod(pod, "Its node is marked out of service", true)] : [];
    return { view: nodeLost(pod), record, after };
  }
  const halted = vm.spec.runStrategy === "Halted";
  const view: View = {
    ...underWay(
      halted ? "Stopping" : "PodDeleted",
      halted
        ? "The guest was asked to power off and has until the end of its grace period"
        : `Pod ${pod.metadata?.name} was deleted: the guest was asked to power off; spec.runStrategy decides what comes then`,
    ),
    running,
  };
  return { view, record };
}

function whilePending(c: Case, pod: Pod, record: StatusRecord): Plan {
  const { vm, nodes, node } = c.observation;
  if (driftedFields(pod, fieldDigests(vm.spec, c.settings)).length > 0) {
    // The guest has not run, so there is nothing to lose by starting over with what is asked for now.
    const view = underWay("Pending", "The spec changed before the machine started: its pod is made anew");
    return { view, record, before: [deletePod(pod, "The spec changed before the machine started")] };
  }
  if (node === null || node?.ready === "Unknown") {
    return { view: nodeLost(pod), record };
  }
  const { warnings } = c.observation;
  const ofPod = whatPodWaitsFor(pod, { spec: vm.spec, settings: c.settings, nodes, warnings: warnings ?? [] });
  // A node that no claim would help to find is the worse news.
  const unbound = pod.spec?.nodeName === undefined ? unboundClaim(c.observation, pod) : undefined;
  const ofClaims = claimProblem(c.observation) ?? (ofPod.isOfNodes === true ? undefined : unbound);
  if (ofClaims !== undefined) {
    return { view: viewOf(ofClaims), record };
  }
  const before = conditionOf(c.previous, "Ready");
  if (
    warnings === undefined &&
    c.previous.podUID === pod.metadata?.uid &&
    REASONS_FROM_EVENTS.has(before?.reason ?? "")
  ) {
    // This operator has only just started: what its predecessor read in events holds until they are listed.
    return { view: underWay(before?.reason as Reason, before?.message ?? ""), record };
  }
  return { view: viewOf(ofPod), record };
}

function viewOf({ reason, message, stalled: needsChange }: Waiting): View {
  return needsChange ? stalled(reason, message) : underWay(reason, message);
}

/** What the status says about a pod that is there. */
function recordOf(c: Case, pod: Pod): StatusRecord {
  return { ...c.kept, restarts: restartsOf(pod, c.previous), ...podFields(pod), ...runFields(c.previous, pod) };
}

function podFields(pod: Pod): StatusRecord {
  return {
    podName: pod.metadata?.name ?? "",
    podUID: pod.metadata?.uid ?? "",
    ...(pod.status?.podIP === undefined ? {} : { podIP: pod.status.podIP }),
    ...(pod.spec?.nodeName === undefined ? {} : { node: pod.spec.nodeName }),
  };
}

/** What is known of the run in this pod. */
function runFields(previous: VirtualMachineStatus, pod: Pod): StatusRecord {
  if (!isSameRun(pod, previous.podUID)) {
    return {};
  }
  const { startedAt, launcherVersion, reboots } = previous;
  return {
    ...(reboots === undefined ? {} : { reboots }),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(launcherVersion === undefined ? {} : { launcherVersion }),
  };
}

function restartsOf(pod: Pod, previous: VirtualMachineStatus): number {
  const restarts = Number(pod.metadata?.annotations?.[annotations.restarts]);
  return Number.isSafeInteger(restarts) && restarts >= 0 ? restarts : (previous.restarts ?? 0);
}

/** After Halted all is forgotten that would hold the next start back. */
function acknowledged(record: StatusRecord): StatusRecord {
  const { lastTermination, ...rest } = record;
  const { podUID: _, ...seen } = lastTermination ?? { reason: "", message: "" };
  return {
    ...rest,
    consecutiveCrashes: 0,
    failedStarts: 0,
    ...(lastTermination === undefined ? {} : { lastTermination: seen }),
  };
}

function specProblem(c: Case): string | undefined {
  try {
    machineConfig(c.observation.vm, c.settings, c.observation.claims);
    return undefined;
  } catch (error) {
    if (error instanceof SpecError) {
      return error.message;
    }
    throw error;
  }
}

function isOwn({ vm }: Observation, pod: Pod): boolean {
  return controllerOf(pod)?.uid === vm.metadata.uid;
}

function conditionOf(status: VirtualMachineStatus, type: string) {
  return status.conditions?.find((condition) => condition.type === type);
}

function wasRunning(previous: VirtualMachineStatus): boolean {
  return conditionOf(previous, "Running")?.status === "True";
}

/** A machine that ended and stays so. */
function ended(end: Termination, runStrategy: string): View {
  const next = `spec.runStrategy ${runStrategy} does not start it again; set it to Halted and back to do so`;
  const message = `${end.message}; ${next}`;
  switch (classOf(end)) {
    case "success":
      return off("Completed", message);
    case "crash":
      return stalled(NEEDS_CHANGE.has(end.reason) ? (end.reason as Reason) : "Crashed", `${end.reason}: ${message}`);
    default:
      return stalled(end.reason as Reason, message);
  }
}
