import type { Disk } from "../../../../crds/src/disk.ts";
import type { Reason } from "../../../../crds/src/reasons.ts";
import type { DiskStatus, LauncherStatus } from "../../../../launcher/api/control.ts";
import { doubling } from "../../runtime/back-off.ts";
import type { Pod } from "../../runtime/wire.ts";
import { askAgainAtMs } from "./ask-again.ts";
import { type Attachment, attachmentNames, attachmentOf, hotDisks } from "./attachments.ts";
import { claimProblemOf } from "./claim-problems.ts";
import { claimsToMake } from "./claim-templates.ts";
import { claimKeysOfPod } from "./claims.ts";
import { startedDisks } from "./drift.ts";
import { hotDiskConfig } from "./machine-config.ts";
import type { Observation } from "./observation.ts";
import type { Action } from "./plan.ts";
import type { Settings } from "./settings.ts";
import type { VolumeState } from "./status.ts";
import { parseTerminationMessage } from "./termination.ts";
import { troubleOf } from "./trouble.ts";

const REFUSED_MIN_DELAY_MS = 500;
const REFUSED_MAX_DELAY_MS = 30_000;
/** How long an attachment pod that ended stays, so that a node that refuses pods is not flooded with them. */
const ENDED_STAYS_MS = 10_000;

/** What a disk that comes or goes is waiting for. */
export interface HotDisk {
  readonly state: VolumeState;
  readonly reason?: Reason;
  readonly message?: string;
}

export interface HotPlugPlan {
  readonly actions: readonly Action[];
  readonly wakeAtMs: number | undefined;
  /** By name: disks that the machine was not started with, those included that it shall not have any more. */
  readonly disks: Readonly<Record<string, HotDisk>>;
  /** True where the launcher has not been heard: what was known before holds. */
  readonly isUnknown: boolean;
}

const NOTHING: HotPlugPlan = { actions: [], wakeAtMs: undefined, disks: {}, isUnknown: false };

/**
 * What brings the disks of a running machine to what its spec asks: an attachment pod for each disk on a claim that it
 * was not started with, which has the volume on the machine's node; then a word to the launcher. And the way back: the
 * guest gives the disk up, and only then its pod goes.
 */
export function hotPlugPlan(observation: Observation, settings: Settings, nowMs: number): HotPlugPlan {
  const { vm, pod, attachments, launcher } = observation;
  if (vm.metadata.deletionTimestamp !== undefined) return NOTHING;
  const all = attachments.map(attachmentOf);
  const uid = pod?.metadata?.uid;
  const isOver = pod === undefined || pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
  const orphans = all.filter((each) => isOver || each.launcherUID !== uid);
  const actions: Action[] = orphans.flatMap((each) => remove(each, "Its launcher has ended"));
  // Its new pod is made as the old one is: nothing comes or goes until the machine has moved.
  if (observation.incoming !== undefined) return { ...NOTHING, actions, isUnknown: true };
  const isStopping = pod?.metadata?.deletionTimestamp !== undefined || vm.spec.runStrategy === "Halted";
  if (isOver || isStopping || pod.status?.phase !== "Running") return { ...NOTHING, actions };
  const started = startedDisks(pod);
  if (started === undefined) return { ...NOTHING, actions };
  const isLost = observation.node === null || observation.node?.ready === "Unknown";
  const status = launcher?.podUID === uid && !isLost ? launcher?.status : undefined;
  if (status?.disks === undefined || (status.state !== "Running" && status.state !== "Paused"))
    return { ...NOTHING, actions, isUnknown: true };
  const own = all.filter((each) => !orphans.includes(each));
  return new Planner({ observation, settings, nowMs, pod, status, own, started, actions }).plan();
}

interface PlannerInputs {
  readonly observation: Observation;
  readonly settings: Settings;
  readonly nowMs: number;
  readonly pod: Pod;
  readonly status: LauncherStatus;
  /** Attachments for this launcher pod. */
  readonly own: readonly Attachment[];
  readonly started: ReadonlySet<string>;
  readonly actions: readonly Action[];
}

class Planner {
  readonly #in: PlannerInputs;
  readonly #actions: Action[];
  readonly #disks: Record<string, HotDisk> = {};
  #wakeAtMs: number | undefined;

  constructor(inputs: PlannerInputs) {
    this.#in = inputs;
    this.#actions = [...inputs.actions];
  }

  plan(): HotPlugPlan {
    const { observation, own, status, started } = this.#in;
    const wanted = hotDisks(observation.vm, started);
    for (const { disk, claimName } of wanted) this.#disks[disk.name] = this.#bring(disk, claimName);
    const isWanted = (name: string) => wanted.some(({ disk }) => disk.name === name);
    for (const seen of status.disks ?? [])
      if (!started.has(seen.name) && !isWanted(seen.name)) this.#disks[seen.name] = this.#take(seen);
    for (const attachment of own)
      if (!isWanted(attachment.diskName) && this.#seen(attachment.diskName) === undefined)
        this.#actions.push(...remove(attachment, "The disk is not in spec.disks any more"));
    return { actions: this.#actions, wakeAtMs: this.#wakeAtMs, disks: this.#disks, isUnknown: false };
  }

  /** Towards a disk that the spec has. */
  #bring(disk: Disk, claimName: string): HotDisk {
    const { own, pod } = this.#in;
    const seen = this.#seen(disk.name);
    const ofDisk = own.filter(({ diskName }) => diskName === disk.name);
    const launcherUID = pod.metadata?.uid ?? "";
    const others = ofDisk.filter((each) => !each.matches(disk, launcherUID));
    const right = ofDisk.filter((each) => each.matches(disk, launcherUID));
    if (seen?.state === "Detaching" || (seen !== undefined && others.length > 0 && right.length === 0))
      return this.#take(seen);
    for (const other of others) this.#actions.push(...remove(other, "The disk has changed in spec.disks"));
    const [leaving] = others;
    if (leaving) return { state: "Pending", ...waiting(`Pod ${leaving.name} of the disk as it was has to end first`) };
    return this.#hold(disk, claimName, { seen, right });
  }

  /** Keeps an attachment pod there, and has the launcher take the disk from it. */
  #hold(
    disk: Disk,
    claimName: string,
    { seen, right }: { readonly seen: DiskStatus | undefined; readonly right: readonly Attachment[] },
  ): HotDisk {
    const live = right.find((each) => !each.isLeaving && !each.hasEnded);
    for (const each of right) if (each.hasEnded) this.#forget(each, live !== undefined);
    if (live === undefined) {
      const made = this.#make(disk, claimName, right);
      return seen === undefined ? made : this.#attached(seen, made);
    }
    if (seen !== undefined) return this.#attached(seen);
    const { pod: holder } = live;
    if (holder.status?.phase !== "Running") return { state: "Pending", ...this.#whatHolderWaitsFor(holder) };
    const failure = failureOf(holder);
    if (failure !== undefined) return { state: "Pending", reason: "DiskNotAttached", message: failure };
    return this.#attach(disk, holder);
  }

  #attached(seen: DiskStatus, trouble?: HotDisk): HotDisk {
    const state = seen.state ?? "Attached";
    if (state !== "Attaching")
      return { state, ...(trouble?.message === undefined ? {} : { message: trouble.message }) };
    this.#askAgain();
    return { state, ...waiting("The guest has not taken it yet; it needs a driver for PCI hot-plug by ACPI") };
  }

  #make(disk: Disk, claimName: string, right: readonly Attachment[]): HotDisk {
    const { observation } = this.#in;
    const { vm, claims } = observation;
    const missing = claimsToMake(vm, claims).filter(
      (action) => action.kind === "apply-claim" && action.claim.metadata?.name === claimName,
    );
    if (missing.length > 0) {
      this.#actions.push(...missing);
      return { state: "Pending", ...waiting(`PersistentVolumeClaim ${claimName} is being made`) };
    }
    const holder = this.#otherUserOf(disk.name, claimName);
    if (holder !== undefined) {
      const message = `PersistentVolumeClaim ${claimName} is still with pod ${holder}, as another disk of this machine; give each disk a claim of its own, or restart the machine`;
      return { state: "Pending", reason: "DiskNotAttached", message };
    }
    const problem = claimProblemOf(disk, claimName, { claims, rivals: observation.attachmentRivals });
    if (problem !== undefined) return { state: "Pending", reason: problem.reason, message: problem.message };
    const refused = this.#refusal(disk.name);
    if (refused?.isDue === false) return refused.disk;
    const name = attachmentNames(vm, disk.name).find((each) => !right.some((other) => other.name === each));
    if (name === undefined) return { state: "Pending", ...waiting("Its earlier pods have to end first") };
    const launcherUID = this.#in.pod.metadata?.uid ?? "";
    this.#actions.push({ kind: "create-attachment", name, disk, claimName, claims, launcherUID });
    return refused?.disk ?? { state: "Pending", ...waiting(`Pod ${name} is being made, for its volume to come`) };
  }

  /** A pod of the machine that has the claim for something else: a disk under its former name, say. */
  #otherUserOf(diskName: string, claimName: string): string | undefined {
    const { own, pod } = this.#in;
    const others = [pod, ...own.filter((each) => each.diskName !== diskName).map((each) => each.pod)];
    const key = `${pod.metadata?.namespace}/${claimName}`;
    return others.find((other) => claimKeysOfPod(other).includes(key))?.metadata?.name;
  }

  #attach(disk: Disk, holder: Pod): HotDisk {
    const refused = this.#refusal(disk.name);
    if (refused?.isDue === false) return refused.disk;
    const config = hotDiskConfig(this.#in.observation.vm, disk, holder.metadata?.uid ?? "");
    this.#actions.push({ kind: "attach-disk", ...this.#where, disk: config });
    return refused?.disk ?? { state: "Pending", ...waiting("The launcher is asked to take it") };
  }

  /** Towards a machine without the disk. */
  #take({ name, state }: DiskStatus): HotDisk {
    const first = state !== "Detaching";
    if (first || this.#isTimeToAsk()) this.#actions.push({ kind: "detach-disk", ...this.#where, disk: name });
    else this.#askLater();
    const message = "The guest was asked to give it up, and has not done so yet; a restart of the machine ends that";
    return { state: "Detaching", reason: "DiskDetaching", message };
  }

  #forget(attachment: Attachment, isReplaced: boolean): void {
    const { nowMs } = this.#in;
    const sinceMs = Date.parse(attachment.pod.metadata?.creationTimestamp ?? "");
    const untilMs = Number.isNaN(sinceMs) ? nowMs : sinceMs + ENDED_STAYS_MS;
    if (isReplaced || nowMs >= untilMs) this.#actions.push(...remove(attachment, "It has ended"));
    else this.#wake(untilMs);
  }

  #whatHolderWaitsFor(holder: Pod): Pick<HotDisk, "reason" | "message"> {
    const { name } = holder.metadata ?? {};
    const trouble = troubleOf(holder, this.#in.observation.attachmentWarnings[holder.metadata?.uid ?? ""] ?? []);
    if (trouble !== undefined) return { reason: trouble.reason, message: trouble.message };
    const scheduled = holder.status?.conditions?.find(({ type }) => type === "PodScheduled");
    if (scheduled?.reason === "Unschedulable") {
      const message = `Pod ${name} cannot be placed on the machine's node: ${scheduled.message}`;
      return { reason: "Unschedulable", message };
    }
    const container = holder.status?.containerStatuses?.[0]?.state?.waiting;
    const said = container?.reason === undefined ? "" : `: ${container.message ?? container.reason}`;
    return waiting(`Pod ${name} is being started${said}`);
  }

  /** What was refused a short while ago is not tried yet; what was, stays the word until a try has another end. */
  #refusal(disk: string): { readonly isDue: boolean; readonly disk: HotDisk } | undefined {
    const refusal = this.#in.observation.deviceRefusals[disk];
    if (refusal === undefined) return undefined;
    const againAtMs = refusal.atMs + doubling(REFUSED_MIN_DELAY_MS, REFUSED_MAX_DELAY_MS, refusal.count);
    const isDue = this.#in.nowMs >= againAtMs;
    if (!isDue) this.#wake(againAtMs);
    const reason = refusal.isPassing ? "DiskAttaching" : "DiskNotAttached";
    return { isDue, disk: { state: "Pending", reason, message: refusal.message } };
  }

  #seen(name: string): DiskStatus | undefined {
    return this.#in.status.disks?.find((disk) => disk.name === name);
  }

  get #where(): { readonly podUID: string; readonly ip: string } {
    const { pod } = this.#in;
    return { podUID: pod.metadata?.uid ?? "", ip: pod.status?.podIP ?? "" };
  }

  #askAgain(): void {
    if (!this.#isTimeToAsk()) {
      this.#askLater();
      return;
    }
    const readiness = this.#in.observation.launcher?.readiness ?? "";
    this.#actions.push({ kind: "ask-launcher", ...this.#where, readiness });
  }

  #isTimeToAsk(): boolean {
    return this.#in.nowMs >= this.#askAtMs;
  }

  #askLater(): void {
    this.#wake(this.#askAtMs);
  }

  get #askAtMs(): number {
    return askAgainAtMs(this.#in.observation, this.#in.nowMs);
  }

  #wake(atMs: number): void {
    this.#wakeAtMs = Math.min(this.#wakeAtMs ?? atMs, atMs);
  }
}

/** Why a holder has ended that is to be started again. */
function failureOf(holder: Pod): string | undefined {
  const { state, lastState } = holder.status?.containerStatuses?.[0] ?? {};
  const ended = state?.running === undefined ? (state?.terminated ?? lastState?.terminated) : undefined;
  if (ended === undefined) return undefined;
  return (
    parseTerminationMessage(ended.message)?.message ?? `Pod ${holder.metadata?.name} ended with code ${ended.exitCode}`
  );
}

function waiting(message: string): { readonly reason: Reason; readonly message: string } {
  return { reason: "DiskAttaching", message };
}

function remove(attachment: Attachment, note: string): Action[] {
  if (attachment.isLeaving) return [];
  return [{ kind: "delete-attachment", name: attachment.name, uid: attachment.pod.metadata?.uid ?? "", note }];
}
