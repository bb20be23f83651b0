import type { ConditionType } from "../../../../crds/src/condition.ts";
import type { Reason } from "../../../../crds/src/reasons.ts";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { EventDraft } from "../../runtime/event-recorder.ts";
import { classOf } from "./termination.ts";

/** Reasons that are worth an event when a machine comes to stand so. */
const TROUBLE: ReadonlySet<string> = new Set<Reason>([
  "Unschedulable",
  "ImagePullFailed",
  "ContainerNotStarted",
  "ClaimNotFound",
  "ClaimLost",
  "ClaimDeleting",
  "ClaimInUse",
  "ClaimReadOnly",
  "StorageFull",
  "VolumeNotReady",
  "SecretNotFound",
  "PodInvalid",
  "PodForbidden",
  "QuotaExceeded",
  "NameConflict",
  "SpecInvalid",
  "NodeLost",
  "LauncherUnreachable",
  "CrashBackOff",
  "GuestPanicked",
]);

/** The events for going from one status to the next; none when nothing of note happened. */
export function transitions(previous: VirtualMachineStatus | undefined, next: VirtualMachineStatus): EventDraft[] {
  const events: EventDraft[] = [];
  const end = next.lastTermination;
  if (end?.podUID !== undefined && end.podUID !== previous?.lastTermination?.podUID) {
    const benign = classOf(end) === "success" || end.reason === "PodDeleted";
    events.push({ type: benign ? "Normal" : "Warning", reason: end.reason, action: "End", note: end.message });
  }
  const ready = condition(next, "Ready");
  if (ready !== undefined && TROUBLE.has(ready.reason) && ready.reason !== condition(previous, "Ready")?.reason) {
    events.push({ type: "Warning", reason: ready.reason, action: "Reconcile", note: ready.message });
  }
  const becomes = (type: ConditionType, status: string) =>
    condition(next, type)?.status === status && condition(previous, type)?.status !== status;
  const sameRun = previous?.podUID === next.podUID;
  if (condition(next, "Running")?.status === "True" && (becomes("Running", "True") || !sameRun)) {
    events.push({ type: "Normal", reason: "Running", action: "Start", note: `The guest runs on node ${next.node}` });
  }
  if ((next.reboots ?? 0) > (sameRun ? (previous?.reboots ?? 0) : 0)) {
    // One note for all, so that a storm of reboots is one event with a count.
    events.push({
      type: "Normal",
      reason: "GuestRebooted",
      action: "Reboot",
      note: "The guest rebooted; its pod stays",
    });
  }
  if (becomes("Paused", "True")) {
    events.push({ type: "Normal", reason: "Paused", action: "Pause", note: "The guest is paused" });
  } else if (sameRun && condition(previous, "Paused")?.status === "True" && becomes("Paused", "False")) {
    events.push({ type: "Normal", reason: "Resuming", action: "Resume", note: "The guest goes on" });
  }
  if (sameRun) {
    events.push(...diskEvents(previous, next), ...interfaceEvents(previous, next));
  }
  events.push(...movedEvents(previous, next));
  // Not of an outdated launcher: an upgrade of the operator would be an event of each machine.
  const restart = specChange(next);
  if (restart !== undefined && specChange(previous) === undefined) {
    events.push({ type: "Normal", reason: "SpecChanged", action: "Compare", note: restart.message });
  }
  return events;
}

function specChange(status: VirtualMachineStatus | undefined) {
  const restart = condition(status, "RestartRequired");
  return restart?.status === "True" && restart.reason === "SpecChanged" ? restart : undefined;
}

/** Disks that came and went; and, once for each reason, what keeps one from coming. */
function diskEvents(previous: VirtualMachineStatus | undefined, next: VirtualMachineStatus): EventDraft[] {
  const before = previous?.volumes ?? [];
  const stateIn = (volumes: typeof before, name: string) => volumes.find((volume) => volume.name === name)?.state;
  const came = (next.volumes ?? []).filter(({ name, state }) => {
    const earlier = stateIn(before, name);
    return state === "Attached" && (earlier === "Pending" || earlier === "Attaching");
  });
  const went = before.filter(
    ({ name, state }) => state === "Detaching" && stateIn(next.volumes ?? [], name) !== "Detaching",
  );
  const trouble = condition(next, "Reconciling");
  const isNews = trouble?.reason !== condition(previous, "Reconciling")?.reason;
  return [
    ...came.map(({ name }) => diskEvent("DiskAttached", `The guest has disk ${name}`)),
    ...went.map(({ name }) => diskEvent("DiskDetached", `The guest has given up disk ${name}`)),
    ...(trouble?.status === "True" && isNews && DEVICE_TROUBLE.has(trouble.reason)
      ? [{ type: "Warning" as const, reason: trouble.reason, action: "Attach", note: trouble.message }]
      : []),
  ];
}

/** Disks that are on other claims now than they were. */
function movedEvents(previous: VirtualMachineStatus | undefined, next: VirtualMachineStatus): EventDraft[] {
  return (previous?.movedDisks ?? []).flatMap(({ name, claimName, nextClaimName }): EventDraft[] => {
    const isOpen = next.movedDisks?.some((each) => each.name === name && each.nextClaimName !== undefined) === true;
    const now = next.volumes?.find((volume) => volume.name === name)?.claimName;
    if (isOpen || nextClaimName === undefined || now !== nextClaimName) return [];
    const note = `Disk ${name} is on claim ${now}, and no more on ${claimName}, whichever of them spec.disks names`;
    return [{ type: "Normal", reason: "DiskMoved", action: "Migrate", note }];
  });
}

/** Where the machine runs all the same, so that its Ready condition does not tell. */
const DEVICE_TROUBLE: ReadonlySet<string> = new Set<Reason>([
  "DiskNotAttached",
  "InterfaceNotAttached",
  "ClaimNotFound",
  "ClaimLost",
  "ClaimDeleting",
  "ClaimInUse",
  "ClaimReadOnly",
  "Unschedulable",
  "VolumeNotReady",
]);

/** Interfaces that came to the machine while it ran, and those that went. */
function interfaceEvents(previous: VirtualMachineStatus | undefined, next: VirtualMachineStatus): EventDraft[] {
  const [before, after] = [previous, next].map((status) => status?.interfaces ?? []);
  const names = (some: typeof before, others: typeof before) =>
    (some ?? []).flatMap(({ name }) => (others?.some((other) => other.name === name) === true ? [] : [name]));
  // A pod's first status is what the machine is started with.
  if ((before ?? []).length === 0 || condition(previous, "Running")?.status !== "True") return [];
  const event = (reason: "InterfaceAttached" | "InterfaceDetached", note: string): EventDraft => {
    return { type: "Normal", reason, action: reason === "InterfaceAttached" ? "Attach" : "Detach", note };
  };
  return [
    ...names(after, before).map((name) => event("InterfaceAttached", `The guest has interface ${name}`)),
    ...names(before, after).map((name) => event("InterfaceDetached", `The guest has given up interface ${name}`)),
  ];
}

function diskEvent(reason: "DiskAttached" | "DiskDetached", note: string): EventDraft {
  return { type: "Normal", reason, action: reason === "DiskAttached" ? "Attach" : "Detach", note };
}

function condition(status: VirtualMachineStatus | undefined, type: ConditionType) {
  return status?.conditions?.find((candidate) => candidate.type === type);
}
