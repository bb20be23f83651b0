import { formatBytes } from "../../../../crds/src/quantity.ts";
import type { ImportPhase, ImportStatus } from "../../../../crds/src/virtualmachineimage.ts";
import { type ImportProgress, type ImportReason, LASTING_IMPORT_REASONS } from "../../../../launcher/api/import.ts";
import { doubling } from "../../runtime/back-off.ts";
import { formatTime } from "../../runtime/clock.ts";
import type { Pod } from "../../runtime/wire.ts";
import { FAILED, REFUSED } from "../claim-import.ts";
import { annotations } from "./names.ts";
import type { ClaimFacts, ClaimObservation, StoredImage } from "./observation.ts";
import type { Action } from "./plan.ts";
import type { ImportSettings } from "./settings.ts";
import { sourceDigest, templateDigest } from "./source.ts";
import { endOf, importsOf, podTrouble } from "./termination.ts";

/** When to look again whether a source is still written to. */
const SOURCE_IN_USE_MS = 5_000;

/** What one claim comes to. */
export interface ClaimPlan {
  readonly entry: ImportStatus;
  readonly actions: readonly Action[];
  readonly wakeAtMs?: number | undefined;
  /** What the importer found out about the source. */
  readonly found?: ImportProgress | undefined;
}

export interface ClaimCase extends ClaimObservation {
  readonly image: StoredImage | undefined;
  readonly previous: ImportStatus | undefined;
  readonly settings: ImportSettings;
  readonly nowMs: number;
}

/** What to do about one claim that begins with an image; undefined once it is on its way out. */
export function decideClaim(c: ClaimCase): ClaimPlan | undefined {
  const { claim } = c;
  // Prime claim and pod belong to it: the garbage collector takes them along.
  if (claim.deleting) return undefined;
  return claim.volumeName === undefined ? fill(c) : settle(c, claim.volumeName);
}

/** The claim has a volume: the right one, or one that somebody else gave it. */
function settle(c: ClaimCase, volumeName: string): ClaimPlan {
  const { claim, previous } = c;
  if (claim.importedVolume === volumeName) {
    const completedAt = previous?.completedAt ?? formatTime(c.nowMs);
    const isNew = previous?.phase !== "Completed";
    const message = "the disk is in the claim's volume";
    const done = {
      type: "Normal",
      reason: "ImportCompleted",
      action: "Import",
      note: `Volume ${volumeName} is filled`,
    } as const;
    return {
      entry: { ...keep(c), phase: "Completed", progress: "100%", reason: "ImportCompleted", message, completedAt },
      actions: [
        ...cleanup(c),
        ...marked(c, "Completed"),
        ...(isNew ? [{ kind: "tell", claim, event: done } as const] : []),
      ],
    };
  }
  const checked = claim.import?.state?.startsWith(REFUSED) === true;
  const message = notPopulated(claim, volumeName);
  return {
    entry: { ...keep(c), phase: "Failed", reason: "ClaimNotPopulated", message },
    actions: [...cleanup(c), ...(checked ? [] : [{ kind: "check-volume", claim, volumeName } as const])],
  };
}

/** Words for a claim with a volume that no import filled. */
export function notPopulated({ name }: ClaimFacts, volumeName: string): string {
  return `PersistentVolumeClaim ${name} was bound to volume ${volumeName}, which was not filled from the image; delete the claim, and make it anew with a StorageClass that keeps to dataSourceRef (docs/import.md)`;
}

function fill(c: ClaimCase): ClaimPlan {
  const { claim, image, storage, prime, pod } = c;
  if (image === undefined) {
    const message = `VirtualMachineImage ${claim.import?.imageName} does not exist; create it, or correct dataSourceRef`;
    return waiting(c, "ImageNotFound", message, cleanup(c));
  }
  if (storage.kind !== "usable") {
    const state = storage.kind === "refused" ? `${REFUSED}${storage.message}` : storage.message;
    const phase = storage.kind === "refused" ? "Failed" : "Waiting";
    return { ...waiting(c, "ClaimNotPopulated", storage.message, cleanup(c), phase), ...marksOnly(c, state) };
  }
  if (storage.waits && claim.selectedNode === undefined && prime === undefined)
    return waiting(c, "ImportWaiting", `waits for the first consumer of PersistentVolumeClaim ${claim.name}`);
  if (prime === undefined) {
    const stray = pod === undefined ? [] : [removePod(pod)];
    return waiting(c, "ImportWaiting", "makes the volume", [
      ...stray,
      { kind: "create-prime", claim, backing: storage.backing },
    ]);
  }
  if (prime.ownerUID !== claim.uid || prime.deleting)
    return waiting(c, "ImportWaiting", `waits until PersistentVolumeClaim ${prime.name} is gone`);
  const written = whileWritten(c);
  if (written !== undefined) return written;
  if (pod === undefined) return withoutPod(c, prime);
  return withPod(c, image, prime, pod);
}

/** A machine that writes to a source may be seen by nobody else: of a device that nodes share, locks tell nothing. */
function whileWritten(c: ClaimCase): ClaimPlan | undefined {
  const { source, sourceWriters, pod, nowMs } = c;
  if (source === undefined || sourceWriters.length === 0) return undefined;
  const machines = sourceWriters.join(", ");
  const message = `VirtualMachine ${machines} writes to PersistentVolumeClaim ${source.name}; stop it first`;
  // What was copied by now may be of two moments.
  const leaving = pod === undefined || pod.metadata?.deletionTimestamp !== undefined ? [] : [removePod(pod)];
  return { ...waiting(c, "SourceInUse", message, leaving), wakeAtMs: nowMs + SOURCE_IN_USE_MS };
}

function withoutPod(c: ClaimCase, prime: ClaimFacts): ClaimPlan {
  const { claim, previous, source } = c;
  // Its volume is the claim's already: the claim is about to be bound.
  if (prime.phase === "Lost" && claim.importedVolume === prime.volumeName) return finishing(c);
  if (prime.phase === "Lost") {
    const lost = { kind: "delete-claim", namespace: prime.namespace, name: prime.name, uid: prime.uid } as const;
    return waiting(c, "ImportWaiting", "the volume is lost, and is made anew", [lost]);
  }
  if (isOf(previous, claim) && previous?.phase === "Retrying") {
    const dueMs = recordedRetryMs(c, previous.attempts ?? 1);
    if (c.nowMs < dueMs)
      return { entry: { ...previous, nextAttemptTime: formatTime(dueMs) }, actions: [], wakeAtMs: dueMs };
  }
  const action: Action = { kind: "create-pod", claim, prime, source };
  return waiting(c, "ImportWaiting", "makes the importer's pod", [action]);
}

function withPod(c: ClaimCase, image: StoredImage, prime: ClaimFacts, pod: Pod): ClaimPlan {
  if (pod.metadata?.deletionTimestamp !== undefined)
    return waiting(c, "ImportWaiting", `waits until pod ${pod.metadata.name} is gone`);
  const phase = pod.status?.phase;
  if (phase === "Succeeded") return handOver(c, prime, pod);
  if (pod.metadata?.annotations?.[annotations.source] !== sourceDigest(image.spec))
    return waiting(c, "ImportWaiting", "the source has changed: begins anew", [removePod(pod)]);
  const hasOldTemplate = pod.metadata?.annotations?.[annotations.template] !== templateDigest(image.spec);
  // What failed for good may have failed for want of what the new one gives.
  if (phase === "Failed" && hasOldTemplate && isLasting(endOf(pod).reason))
    return waiting(c, "ImportWaiting", "spec.template has changed: begins anew", [removePod(pod)]);
  if (phase === "Failed") return afterFailure(c, pod);
  if (phase === "Running") return whileRunning(c, pod);
  // It has done nothing yet, and may wait for what the new one gives it.
  if (hasOldTemplate)
    return waiting(c, "ImportWaiting", "spec.template has changed: the pod is made anew", [removePod(pod)]);
  const trouble = podTrouble(pod);
  return waiting(c, "ImportWaiting", trouble ?? `pod ${pod.metadata?.name} waits for its node, volumes and images`);
}

function handOver(c: ClaimCase, prime: ClaimFacts, pod: Pod): ClaimPlan {
  const { claim } = c;
  const { volumeName } = prime;
  const found = endOf(pod).progress;
  if (volumeName === undefined) return waiting(c, "ImportWaiting", "waits for the name of the volume");
  if (prime.phase === "Lost" && claim.importedVolume === volumeName) return { ...finishing(c), found };
  return { ...finishing(c, [{ kind: "hand-over", claim, prime, volumeName }]), found };
}

function finishing(c: ClaimCase, actions: readonly Action[] = []): ClaimPlan {
  const message = "all is written; the claim is being bound to the volume";
  return {
    entry: { ...keep(c), phase: "Finishing", progress: "100%", reason: "Importing", message },
    actions: [...marked(c, "Finishing"), ...actions],
  };
}

function afterFailure(c: ClaimCase, pod: Pod): ClaimPlan {
  const { claim, previous, settings, nowMs } = c;
  const end = endOf(pod);
  const uid = pod.metadata?.uid ?? "";
  const isCounted = isOf(previous, claim) && previous?.failedPodUID === uid;
  const attempts = isCounted ? (previous?.attempts ?? 1) : (keep(c).attempts ?? 0) + 1;
  const base = { ...keep(c), attempts, failedPodUID: uid, reason: end.reason };
  const told: Action[] = isCounted
    ? []
    : [{ kind: "tell", claim, event: { type: "Warning", reason: end.reason, action: "Import", note: end.message } }];
  if (isLasting(end.reason)) {
    const again = `it is tried again when the VirtualMachineImage changes, or when pod ${pod.metadata?.name} is deleted`;
    const message = `${end.message} (${again})`;
    return {
      entry: { ...base, phase: "Failed", message },
      actions: [...told, ...marked(c, `${FAILED}${end.message}`)],
      found: end.progress,
    };
  }
  const dueMs = isCounted ? recordedRetryMs(c, attempts) : wholeSecond(nowMs + backOffMs(settings, attempts));
  const nextAttemptTime = formatTime(dueMs);
  const entry: ImportStatus = {
    ...base,
    phase: "Retrying",
    message: `${end.message} (${attempts} in a row)`,
    nextAttemptTime,
  };
  const actions = [...told, ...marked(c, `Retrying: ${end.message}`)];
  // Only once the failure is on record may its evidence go.
  if (isCounted && nowMs >= dueMs) return { entry, actions: [...actions, removePod(pod)], found: end.progress };
  return { entry, actions, wakeAtMs: dueMs, found: end.progress };
}

function isLasting(reason: string): boolean {
  return LASTING_IMPORT_REASONS.has(reason as ImportReason);
}

/** When a failure that is on record is due to be tried again; by a clock that was ahead no later than by this one. */
function recordedRetryMs({ previous, settings, nowMs }: ClaimCase, attempts: number): number {
  const saidMs = Date.parse(previous?.nextAttemptTime ?? "");
  return wholeSecond(Number.isNaN(saidMs) ? nowMs : Math.min(saidMs, nowMs + backOffMs(settings, attempts)));
}

function backOffMs({ backOffMinMs, backOffMaxMs }: ImportSettings, attempts: number): number {
  return doubling(backOffMinMs, backOffMaxMs, attempts);
}

/** Times in a status are whole seconds; none is too early. */
function wholeSecond(ms: number): number {
  return Math.ceil(ms / 1000) * 1000;
}

function whileRunning(c: ClaimCase, pod: Pod): ClaimPlan {
  const { progress } = c;
  const ip = pod.status?.podIP;
  const uid = pod.metadata?.uid ?? "";
  const ask: Action[] = ip === undefined ? [] : [{ kind: "ask-importer", podUID: uid, ip }];
  if (progress === undefined) {
    const entry: ImportStatus = { ...keep(c), phase: "Importing", reason: "Importing", message: "the importer runs" };
    return { entry, actions: [...marked(c, "Importing"), ...ask] };
  }
  const { doneBytes, totalBytes, bytesPerSecond, stage, resumed, trouble } = progress;
  const percent = percentOf(progress);
  const isLast = stage === "Finishing";
  const resumes = resumed === 0 ? "" : `, taken up again ${resumed} times`;
  const of = totalBytes === null ? "" : ` of ${shortBytes(totalBytes)}`;
  const message = isLast ? "makes what is written durable" : `${shortBytes(doneBytes)}${of}${resumes}`;
  const entry: ImportStatus = {
    ...keep(c),
    phase: "Importing",
    reason: "Importing",
    message,
    ...(percent === undefined ? {} : { progress: `${percent}%` }),
    transferred: formatBytes(doneBytes),
    rate: `${shortBytes(bytesPerSecond)}/s`,
    ...(trouble && { phase: "Retrying", reason: trouble.reason, message: `${trouble.message}; it goes on from there` }),
  };
  // On the claim in coarse steps: each is a write to somebody else's object.
  const step = percent === undefined ? "" : ` (${Math.floor(percent / 10) * 10}%)`;
  const state = trouble === undefined ? `Importing${step}` : `Retrying: ${trouble.message}`;
  return { entry, actions: [...marked(c, state), ...ask], found: progress };
}

/** Whole percent; undefined while the size is not known. */
function percentOf({ doneBytes, totalBytes }: ImportProgress): number | undefined {
  return totalBytes === null || totalBytes === 0
    ? undefined
    : Math.min(100, Math.floor((doneBytes / totalBytes) * 100));
}

function shortBytes(bytes: number): string {
  const units = ["", "Ki", "Mi", "Gi", "Ti"];
  const unit = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** unit;
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)}${units[unit]}`;
}

/** What stays of the entry from pass to pass. */
function keep({ claim, previous }: ClaimCase): ImportStatus {
  const own = isOf(previous, claim) ? previous : undefined;
  return {
    claimName: claim.name,
    claimUID: claim.uid,
    ...(own?.attempts === undefined ? {} : { attempts: own.attempts }),
    ...(own?.failedPodUID === undefined ? {} : { failedPodUID: own.failedPodUID }),
  };
}

function isOf(previous: ImportStatus | undefined, claim: ClaimFacts): boolean {
  return previous?.claimUID === claim.uid;
}

function waiting(
  c: ClaimCase,
  reason: string,
  message: string,
  actions: readonly Action[] = [],
  phase: ImportPhase = "Waiting",
): ClaimPlan {
  return { entry: { ...keep(c), phase, reason, message }, actions: [...marked(c, `Waiting: ${message}`), ...actions] };
}

function marksOnly(c: ClaimCase, state: string): { readonly actions: readonly Action[] } {
  return { actions: [...marked(c, state), ...cleanup(c)] };
}

function marked({ claim }: ClaimCase, state: string): Action[] {
  const short = state.slice(0, 1000);
  return claim.import?.state === short ? [] : [{ kind: "mark-claim", claim, state: short }];
}

function removePod(pod: Pod): Action {
  const { namespace = "", name = "", uid = "" } = pod.metadata ?? {};
  return { kind: "delete-pod", namespace, name, uid };
}

/** Takes away what the import made. */
function cleanup({ claim, pod, prime }: ClaimCase): Action[] {
  const ownPod = pod !== undefined && importsOf(pod) === claim.uid && pod.metadata?.deletionTimestamp === undefined;
  return [
    ...(ownPod ? [removePod(pod)] : []),
    ...(prime !== undefined && prime.ownerUID === claim.uid && !prime.deleting
      ? [{ kind: "delete-claim", namespace: prime.namespace, name: prime.name, uid: prime.uid } as const]
      : []),
  ];
}
