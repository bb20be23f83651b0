import { formatBytes } from "../../../../crds/src/quantity.ts";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { DiskStatus, LauncherStatus } from "../../../../launcher/api/control.ts";
import type { Pod } from "../../runtime/wire.ts";
import { isUnderWay } from "../virtualmachinemigration/stored.ts";
import { claimDisks, diskBytes, isOnClaim } from "./claims.ts";
import { describeReadiness, hasGuestReadiness } from "./guest-probes.ts";
import { interfacesOf, linkStateOf } from "./interfaces.ts";
import { isSameRun } from "./launcher-pods.ts";
import { annotations } from "./names.ts";
import { type LauncherFacts, readinessOf } from "./observation.ts";
import { largestLimitBytes, overlayChanges } from "./overlay-limits.ts";
import { type Action, type Case, nodeLost, type Plan, stalled, underWay } from "./plan.ts";
import { STABLE_RUN_MS } from "./restart.ts";
import type { StatusRecord, View } from "./status.ts";

/** A launcher that does not answer within this time of its start is worth a word. */
const LAUNCHER_PATIENCE_MS = 10_000;
/** Longer than the kubelet takes to find out what the launcher has just said. */
const ASK_AGAIN_MIN_MS = 5_000;
const ASK_AGAIN_MAX_MS = 300_000;
/** A link that is cut is not noticed at once. */
const SETTLE_MS = 5_000;

/** What is to be done beside the status, and when to look again. */
interface Errand {
  readonly actions: readonly Action[];
  readonly wakeAtMs: number | undefined;
}

/** The case of a pod whose launcher runs and shall run. */
export function decideRunning(c: Case, pod: Pod, podRecord: StatusRecord): Plan {
  const { node, launcher } = c.observation;
  const facts = launcher?.podUID === pod.metadata?.uid ? launcher : undefined;
  const certificate = certificatePlan(c, pod);
  const asking = launcherPlan(c, pod, facts);
  const before = [...asking.actions, ...certificate.actions];
  if (node === null || node?.ready === "Unknown") {
    return { view: nodeLost(pod), record: podRecord, wakeAtMs: certificate.wakeAtMs };
  }
  // An old answer holds while the kubelet finds the launcher ready, or nothing speaks against it.
  const status = facts?.error === undefined || isReady(pod) ? facts?.status : undefined;
  if (status === undefined) {
    const silence = silent(c, pod, facts);
    const wakeAtMs = earliest(certificate.wakeAtMs, silence.wakeAtMs);
    return { view: silence.view, record: podRecord, before, wakeAtMs };
  }
  const stableAtMs = runningSinceMs(c.previous, pod) + STABLE_RUN_MS;
  const record = runRecord(podRecord, status, c.nowMs >= stableAtMs);
  const settling = (record.consecutiveCrashes ?? 0) > 0 && !Number.isNaN(stableAtMs) ? stableAtMs : undefined;
  const { view, after = [], wakeAtMs: lookAgainAtMs } = stateOf(c, pod, status);
  const wakes = [asking.wakeAtMs, certificate.wakeAtMs, settling, lookAgainAtMs];
  const wakeAtMs = wakes.reduce(earliest);
  const changes = [...growths(c, pod, status), ...limits(c, pod, status), ...links(c, pod, status)];
  return {
    view,
    // A new pod takes the machine as it is: what differs from the spec by now has to wait.
    after: c.observation.incoming === undefined ? [...after, ...changes] : after,
    record,
    before,
    wakeAtMs,
  };
}

/** Disks whose claims have grown beyond what the guest sees. A disk that nobody can write to stays as it is. */
function growths(c: Case, pod: Pod, status: LauncherStatus): Action[] {
  if (status.state !== "Running" && status.state !== "Paused") {
    return [];
  }
  return claimDisks(c.observation.vm).flatMap(({ disk, claimName }): Action[] => {
    const claim = c.observation.claims[claimName];
    const seen = status.disks?.find((candidate) => candidate.name === disk.name);
    const isSame = [pod, ...c.observation.attachments].some((each) => isOnClaim(each, disk.name, claimName));
    if (claim?.capacityBytes === undefined || seen === undefined || seen.readOnly || !isSame) {
      return [];
    }
    const sizeBytes = diskBytes(claim);
    const where = { podUID: pod.metadata?.uid ?? "", ip: pod.status?.podIP ?? "" };
    return sizeBytes > seen.sizeBytes ? [{ kind: "resize-disk", ...where, disk: disk.name, sizeBytes }] : [];
  });
}

function limits({ observation, settings }: Case, pod: Pod, status: LauncherStatus): Action[] {
  return overlayChanges(observation.vm, pod, status, settings);
}

/** Interfaces whose cable is not as the spec says. One that is new in the spec waits for a restart. */
function links(c: Case, pod: Pod, status: LauncherStatus): Action[] {
  if (status.state !== "Running" && status.state !== "Paused") {
    return [];
  }
  return interfacesOf(c.observation.vm.spec).flatMap((entry): Action[] => {
    const seen = status.interfaces?.find(({ name }) => name === entry.name);
    const state = linkStateOf(entry);
    const where = { podUID: pod.metadata?.uid ?? "", ip: pod.status?.podIP ?? "" };
    return seen === undefined || seen.link === state
      ? []
      : [{ kind: "set-link", ...where, interfaceName: entry.name, state }];
  });
}

function runRecord(podRecord: StatusRecord, status: LauncherStatus, stable: boolean): StatusRecord {
  const hasRun = status.startedAt !== null;
  return {
    ...podRecord,
    launcherVersion: status.launcherVersion,
    // Fewer than before: another process in the same pod, which cannot be, or an answer to an older question.
    reboots: Math.max(podRecord.reboots ?? 0, status.reboots),
    ...(status.startedAt === null ? {} : { startedAt: status.startedAt }),
    ...(hasRun ? { failedStarts: 0 } : {}),
    ...(stable ? { consecutiveCrashes: 0 } : {}),
  };
}

interface State {
  readonly view: View;
  readonly after?: Action[];
  readonly wakeAtMs?: number;
}

function stateOf(c: Case, pod: Pod, status: LauncherStatus): State {
  const wanted = c.observation.vm.spec.paused;
  const act = (kind: "pause" | "resume"): Action[] => [
    { kind, podUID: pod.metadata?.uid ?? "", ip: pod.status?.podIP ?? "" },
  ];
  switch (status.state) {
    case "Starting":
      return { view: underWay("Starting", status.message || "The launcher prepares the machine") };
    case "Running":
      if (status.guestPanicked && !wanted) {
        return { view: panicked(pod) };
      }
      return wanted
        ? { view: { ...underWay("Pausing", "The guest is being paused"), running: "True" }, after: act("pause") }
        : { view: guestRuns(pod) };
    case "Paused":
      return standsStillToMove(c, pod, status) ?? pausedState(c, pod, status, act);
    case "Stopping":
      return {
        view: { ...underWay("Stopping", status.message || "The guest was asked to power off"), running: "True" },
      };
    case "Ended":
      if (c.observation.incoming !== undefined && status.reason === "Migrated") {
        const message = `The machine goes on in pod ${c.observation.incoming.metadata?.name}`;
        return { view: { ...underWay("Migrating", message), ready: "True", running: "True" } };
      }
      return { view: underWay("Stopping", `${status.message || "The machine has ended"}; its pod is ending`) };
  }
}

/** For the last of its memory, or until it is decided where it goes on: nobody may have it go on here meanwhile. */
function standsStillToMove(
  { observation: { incoming, vm, migrations }, nowMs }: Case,
  pod: Pod,
  { pause, reason }: LauncherStatus,
): State | undefined {
  if (vm.spec.paused || pause?.asked !== false || pause.storageFull.length > 0) {
    return undefined;
  }
  const stands = (message: string): View => ({ ...underWay("Migrating", message), ready: "True", running: "True" });
  if (incoming !== undefined) {
    return { view: stands(`The guest stands still while it moves to pod ${incoming.metadata?.name}`) };
  }
  if (reason !== "Frozen") return undefined;
  const view = stands("The guest stands still, and it is being found out where it goes on");
  if (migrations.some(isUnderWay)) return { view };
  const settle: Action = { kind: "settle-hand-over", podUID: pod.metadata?.uid ?? "", ip: pod.status?.podIP ?? "" };
  return { view, after: [settle], wakeAtMs: nowMs + SETTLE_MS };
}

/** A launcher pauses its guest when asked, and by itself when storage is full: then it goes on by itself as well. */
function pausedState(c: Case, pod: Pod, status: LauncherStatus, act: (kind: "pause" | "resume") => Action[]): State {
  const { pause } = status;
  if (c.observation.vm.spec.paused) {
    // A guest that waits for room alone would go on once there is some.
    return { view: pausedAsAsked(pod), after: pause?.asked === false ? act("pause") : [] };
  }
  if (pause?.asked === false && pause.storageFull.length > 0) {
    return { view: storageFull(c, pod, status, pause.storageFull) };
  }
  const view: View = { ...underWay("Resuming", "The guest is asked to go on"), running: "True", paused: true };
  return { view, after: act("resume") };
}

function pausedAsAsked(pod: Pod): View {
  return { ...running(pod), reason: "Paused", message: "The guest is paused, as spec.paused is true", paused: true };
}

/** The launcher has not answered yet, or no more. */
function silent(c: Case, pod: Pod, facts: LauncherFacts | undefined): { view: View; wakeAtMs?: number } {
  if (isReady(pod)) {
    const note = facts?.error === undefined ? "" : `; the operator can not reach its launcher: ${facts.error}`;
    return { view: { ...running(pod), message: `The guest runs on node ${pod.spec?.nodeName}${note}` } };
  }
  const patientUntilMs = (facts?.askedSinceMs ?? c.nowMs) + LAUNCHER_PATIENCE_MS;
  if (facts?.error !== undefined && c.nowMs >= patientUntilMs) {
    const message = `Launcher of pod ${pod.metadata?.name} at ${pod.status?.podIP}: ${facts.error}; check NetworkPolicies and the pod's log`;
    const view = underWay("LauncherUnreachable", message);
    return { view: { ...view, running: ranInPod(c.previous, pod) ? "Unknown" : "False" } };
  }
  const wakeAtMs = c.nowMs < patientUntilMs ? patientUntilMs : undefined;
  if (ranInPod(c.previous, pod)) {
    // This operator has only just started: what its predecessor saw holds until the launcher says otherwise.
    return { view: asBefore(c.previous, pod), ...(wakeAtMs === undefined ? {} : { wakeAtMs }) };
  }
  const view = underWay("Starting", "The launcher has started and prepares the machine");
  return { view, ...(wakeAtMs === undefined ? {} : { wakeAtMs }) };
}

function asBefore(previous: VirtualMachineStatus, pod: Pod): View {
  const paused = previous.conditions?.find((condition) => condition.type === "Paused" && condition.status === "True");
  if (paused?.reason === "StorageFull") {
    return { ...underWay("StorageFull", paused.message), running: "True", paused: true };
  }
  return paused === undefined ? guestRuns(pod) : pausedAsAsked(pod);
}

function ranInPod(previous: VirtualMachineStatus, pod: Pod): boolean {
  return !Number.isNaN(runningSinceMs(previous, pod));
}

/** By the operator's clock: the launcher's is its node's, which may be minutes off. NaN while it is not known to run. */
function runningSinceMs(previous: VirtualMachineStatus, pod: Pod): number {
  const running = previous.conditions?.find((condition) => condition.type === "Running");
  const isRunning = isSameRun(pod, previous.podUID) && running?.status === "True";
  return isRunning ? Date.parse(running.lastTransitionTime) : Number.NaN;
}

function running(pod: Pod): View {
  const message = `The guest runs on node ${pod.spec?.nodeName}`;
  return { reason: "Running", message, ready: "True", running: "True", progress: "done" };
}

/** Where the spec had a probe of the guest when the pod was made, the pod is ready when the guest is. */
function guestRuns(pod: Pod): View {
  if (!hasGuestReadiness(pod) || isReady(pod)) {
    return running(pod);
  }
  const probe = describeReadiness(pod);
  const message = `The guest runs on node ${pod.spec?.nodeName}, and its readinessProbe (${probe}) does not succeed: it still boots, or its service is down`;
  return { ...underWay("GuestNotReady", message), running: "True" };
}

/** The launcher lets the guest go on by itself, so there is nothing to do but to say so. */
function storageFull(c: Case, pod: Pod, { disks = [] }: LauncherStatus, full: readonly string[]): View {
  const isLimited = (name: string) => disks.find((disk) => disk.name === name)?.overlay?.isFull === true;
  const others = full.filter((name) => !isLimited(name)).join(", ");
  const what = [
    ...full.filter(isLimited).map((name) => overlayFull(c, pod, name, disks)),
    ...(others === "" ? [] : [`The storage of disk ${others} is full: make room on the node, or grow the claim`]),
  ].join(". ");
  const message = `${what}. The guest is paused until there is room`;
  return { ...underWay("StorageFull", message), running: "True", paused: true };
}

function overlayFull({ observation, settings }: Case, pod: Pod, name: string, disks: readonly DiskStatus[]): string {
  const { usedBytes = 0, limitBytes = 0 } = disks.find((disk) => disk.name === name)?.overlay ?? {};
  const largest = largestLimitBytes(observation.vm, pod, name, settings);
  const upTo = Number.isFinite(largest) ? `, up to ${formatBytes(largest)} while it runs` : "";
  const used = formatBytes(Math.ceil(usedBytes / 2 ** 20) * 2 ** 20);
  const field = `spec.disks[${name}].image.overlaySizeLimit`;
  return `The guest has written ${used} beside the image of disk ${name}, and may write ${formatBytes(limitBytes)}: raise ${field}${upTo}`;
}

/** The processors run, but no kernel does. What comes next is the guest's own affair (kernel parameter panic=) or ours. */
function panicked(pod: Pod): View {
  const name = pod.metadata?.name;
  const message = `The guest's kernel panicked; see its console (kubectl exec -it ${name} -- console). To restart the machine, delete pod ${name}; to have the guest restart itself, add panic=10 to spec.boot.kernel.cmdline`;
  return { ...stalled("GuestPanicked", message), running: "True" };
}

/**
 * Asks when the kubelet finds another readiness than before; and again, ever more rarely, while it does not find what
 * the launcher said. A guest that panics before its first probe was never ready, and no readiness changes with it.
 */
function launcherPlan(c: Case, pod: Pod, facts: LauncherFacts | undefined): Errand {
  const ip = pod.status?.podIP;
  const readiness = readinessOf(pod);
  const ask: Action = { kind: "ask-launcher", podUID: pod.metadata?.uid ?? "", ip: ip ?? "", readiness };
  if (ip === undefined) {
    return { actions: [], wakeAtMs: undefined };
  }
  if (facts?.readiness !== readiness) {
    return { actions: [ask], wakeAtMs: undefined };
  }
  if (facts.status === undefined || isReady(pod) === countsAsReady(facts.status)) {
    return { actions: [], wakeAtMs: undefined };
  }
  const disagreedForMs = facts.answeredAtMs - readinessSinceMs(pod);
  const delayMs = Math.min(ASK_AGAIN_MAX_MS, Math.max(ASK_AGAIN_MIN_MS, disagreedForMs || 0));
  const askAtMs = facts.answeredAtMs + delayMs;
  return c.nowMs >= askAtMs ? { actions: [ask], wakeAtMs: undefined } : { actions: [], wakeAtMs: askAtMs };
}

/** What /readyz of the launcher tells the kubelet in this state. */
function countsAsReady({ state, guestPanicked }: LauncherStatus): boolean {
  return (state === "Running" || state === "Stopping") && !guestPanicked;
}

function certificatePlan(c: Case, pod: Pod): Errand {
  const { [annotations.certificateRenewAt]: renewAt, [annotations.trust]: trust } = pod.metadata?.annotations ?? {};
  const renewAtMs = Date.parse(renewAt ?? "");
  const due = Number.isNaN(renewAtMs) || c.nowMs >= renewAtMs || trust !== c.observation.trustId;
  return due
    ? { actions: [{ kind: "renew-certificate", podUID: pod.metadata?.uid ?? "" }], wakeAtMs: undefined }
    : { actions: [], wakeAtMs: renewAtMs };
}

function readinessSinceMs(pod: Pod): number {
  const ready = pod.status?.conditions?.find((condition) => condition.type === "Ready");
  return Date.parse(ready?.lastTransitionTime ?? "");
}

function isReady(pod: Pod): boolean {
  return readinessOf(pod).startsWith("True");
}

function earliest(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}
