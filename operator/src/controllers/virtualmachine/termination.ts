import type { Reason } from "../../../../crds/src/reasons.ts";
import type { Termination, VirtualMachineStatus } from "../../../../crds/src/status.ts";
import { exitCodes, type TerminationMessage, type TerminationReason } from "../../../../launcher/api/control.ts";
import type { Pod } from "../../runtime/wire.ts";
import { type ContainerEnd, containerEnd } from "../container-end.ts";
import { claimOfPod } from "./claims.ts";
import { hasGuestLiveness } from "./guest-probes.ts";
import { LAUNCHER_CONTAINER } from "./names.ts";

/** What an end means for the next start. */
export type EndClass =
  /** The guest powered itself off, or was stopped by someone who spoke to the launcher. */
  | "success"
  /** The machine ended in a fault. */
  | "crash"
  /** The pod failed before the machine started: no fault of the machine. */
  | "never-started"
  /** The cluster or a person took the pod away. */
  | "disruption";

const launcherReasonClasses: Readonly<Record<TerminationReason, EndClass>> = {
  GuestPowerOff: "success",
  Stopped: "success",
  StopTimeout: "success",
  Suspended: "success",
  // Counted only where nobody took the machine over.
  Migrated: "disruption",
  ConfigInvalid: "crash",
  BootImageInvalid: "crash",
  DiskUnavailable: "crash",
  NetworkUnavailable: "crash",
  StateInvalid: "crash",
  KvmUnavailable: "never-started",
  AgentUnavailable: "never-started",
  GuestTripleFault: "crash",
  KvmInternalError: "crash",
  ResetStorm: "crash",
  LauncherError: "crash",
};

/** Ends that come back until someone changes something. */
export const NEEDS_CHANGE: ReadonlySet<string> = new Set([
  "ConfigInvalid",
  "BootImageInvalid",
  "DiskUnavailable",
  "NetworkUnavailable",
]);

/** Ends of a launcher before the guest's first instruction. */
const GUEST_NEVER_RAN: ReadonlySet<string> = new Set([...NEEDS_CHANGE, "KvmUnavailable", "AgentUnavailable"]);

/** What a recorded end means for the next start. */
export function classOf(termination: Termination): EndClass {
  const { reason } = termination;
  if (reason in launcherReasonClasses) {
    return launcherReasonClasses[reason as TerminationReason];
  }
  if (reason === "PodRejected" || reason === "ContainerNotStarted") {
    return "never-started";
  }
  if (reason === "LauncherKilled" || reason === "OutOfMemory" || reason === "LivenessProbeFailed") {
    return "crash";
  }
  return termination.startedAt === undefined ? "never-started" : "disruption";
}

/** What the launcher of a pod left behind when it ended. */
export function lastWordOf(pod: Pod): string | undefined {
  return containerEnd(pod, LAUNCHER_CONTAINER)?.message;
}

/** Kubernetes' own word that it took the pod away. */
function disruptionOf(pod: Pod): Reason | undefined {
  const reason = pod.status?.reason ?? "";
  const target = pod.status?.conditions?.find((condition) => condition.type === "DisruptionTarget");
  const by = target?.status === "True" ? target.reason : undefined;
  if (reason === "Preempting" || reason === "Preempted" || by === "PreemptionByScheduler") {
    return "Preempted";
  }
  if (reason === "NodeLost" || by === "DeletionByTaintManager" || by === "DeletionByPodGC") {
    return "NodeLost";
  }
  if (reason === "Evicted" || reason === "Terminated" || reason === "NodeShutdown" || by !== undefined) {
    return "Evicted";
  }
  return pod.metadata?.deletionTimestamp === undefined ? undefined : "PodDeleted";
}

/**
 * Why the machine in a finished pod ended; `status` is what was known of its run. `halted`: the machine was to be off,
 * so that its pod was deleted is no news.
 */
export function terminationOf(pod: Pod, status: VirtualMachineStatus | undefined, halted: boolean): Termination {
  const terminated = containerEnd(pod, LAUNCHER_CONTAINER);
  const podUID = pod.metadata?.uid ?? "";
  const hasStarted = terminated?.isUnknown || terminated?.startedAt !== undefined;
  if (terminated === undefined || !hasStarted || terminated.reason === "StartError") {
    return { ...neverStarted(pod, terminated), podUID, ...finishedAt(terminated) };
  }
  const { reason, message } = lastWord(pod, terminated, halted);
  const startedAt = guestStart(podUID, reason, terminated, status);
  return {
    reason,
    message,
    exitCode: terminated.exitCode,
    podUID,
    ...(startedAt === undefined ? {} : { startedAt }),
    ...finishedAt(terminated),
  };
}

/** The end of a pod that is gone without a trace. */
export function vanished(status: VirtualMachineStatus, podUID: string, nodeWasLost: boolean): Termination {
  return {
    reason: nodeWasLost ? "NodeLost" : "PodDeleted",
    message: nodeWasLost
      ? `Pod ${status.podName} went with node ${status.node}`
      : `Pod ${status.podName} was deleted before it could say how the machine ended`,
    podUID,
    ...(status.startedAt === undefined ? {} : { startedAt: status.startedAt }),
  };
}

/** How long the launcher ran, in milliseconds. */
export function runDurationMs(termination: Termination): number {
  const { startedAt, finishedAt: end } = termination;
  return startedAt === undefined || end === undefined ? 0 : Math.max(0, Date.parse(end) - Date.parse(startedAt));
}

function neverStarted(pod: Pod, terminated: ContainerEnd | undefined): { reason: Reason; message: string } {
  const message = terminated?.message ?? pod.status?.message ?? "";
  if (terminated?.reason === "StartError") {
    return { reason: "ContainerNotStarted", message: `The container runtime could not start the launcher: ${message}` };
  }
  const disruption = disruptionOf(pod);
  if (disruption !== undefined) {
    return { reason: disruption, message: message || "The pod was taken away before the machine started" };
  }
  const refusal = [pod.status?.reason, message].filter((part) => part !== undefined && part !== "").join(": ");
  return {
    reason: "PodRejected",
    message: `Node ${pod.spec?.nodeName ?? "?"} refused the pod: ${refusal || "no reason given"}`,
  };
}

function lastWord(pod: Pod, terminated: ContainerEnd, halted: boolean): { reason: Reason; message: string } {
  const taken = disruptionOf(pod);
  const disruption = halted && taken === "PodDeleted" ? undefined : taken;
  const said = parseTerminationMessage(terminated.message);
  if (said !== undefined) {
    const ended = launcherReasonClasses[said.reason] === "success" && said.reason !== "GuestPowerOff";
    if (ended && taken === undefined && hasGuestLiveness(pod)) {
      // Nobody deleted the pod: the kubelet stops it, and leaves no other trace of why.
      return {
        reason: "LivenessProbeFailed",
        message: `The guest failed spec.livenessProbe and was stopped: ${said.message}`,
      };
    }
    // The launcher only knows that it was told to stop; the pod knows by whom.
    return ended && disruption !== undefined
      ? { reason: disruption, message: disruptionMessage(pod, said.message) }
      : {
          reason: said.reason,
          message: said.reason === "DiskUnavailable" ? withClaim(said.message, pod) : said.message,
        };
  }
  if (terminated.reason === "OOMKilled") {
    const limit = pod.spec?.containers[0]?.resources?.limits?.["memory"];
    const cause = limit === undefined ? "the node ran out of memory" : `its memory limit of ${limit} was too small`;
    return { reason: "OutOfMemory", message: `The launcher was killed: ${cause}` };
  }
  if (disruption !== undefined) {
    return { reason: disruption, message: disruptionMessage(pod, "The launcher was killed before it could say why") };
  }
  if (terminated.isUnknown || terminated.reason === "Unknown") {
    return { reason: "NodeLost", message: `Node ${pod.spec?.nodeName} restarted or lost the container` };
  }
  if (terminated.exitCode === 137) {
    return { reason: "LauncherKilled", message: "The launcher was killed by signal 9, without a last word" };
  }
  const log = terminated.message === undefined ? "" : `; its log ended with: ${terminated.message.trim().slice(-1000)}`;
  return { reason: "LauncherError", message: `The launcher ended with exit code ${terminated.exitCode}${log}` };
}

/** The launcher knows the disk alone ("disk NAME: ..."), and whoever mends it needs the claim. */
function withClaim(message: string, pod: Pod): string {
  const diskName = /^disk ([a-z0-9-]+): /.exec(message)?.[1];
  const claimName = diskName === undefined ? undefined : claimOfPod(pod, diskName);
  if (claimName === undefined) return message;
  return message.replace(":", ` (PersistentVolumeClaim ${claimName}):`);
}

function disruptionMessage(pod: Pod, otherwise: string): string {
  return pod.status?.message || otherwise;
}

/** The last word of a launcher, which is data from a process that a hostile guest may have taken over. */
export function parseTerminationMessage(text: string | undefined): TerminationMessage | undefined {
  try {
    const parsed: unknown = JSON.parse(text ?? "");
    if (typeof parsed !== "object" || parsed === null) {
      return undefined;
    }
    const { version, reason, message } = parsed as Partial<Record<keyof TerminationMessage, unknown>>;
    if (
      version !== 1 ||
      typeof reason !== "string" ||
      !Object.hasOwn(exitCodes, reason) ||
      typeof message !== "string"
    ) {
      return undefined;
    }
    return { version, reason: reason as TerminationReason, message: message.slice(0, 4096) };
  } catch {
    return undefined;
  }
}

function guestStart(
  podUID: string,
  reason: Reason,
  terminated: ContainerEnd,
  status: VirtualMachineStatus | undefined,
): string | undefined {
  if (GUEST_NEVER_RAN.has(reason)) {
    return undefined;
  }
  return status?.podUID === podUID && status.startedAt !== undefined ? status.startedAt : terminated.startedAt;
}

function finishedAt(terminated: ContainerEnd | undefined): { finishedAt?: string } {
  return terminated?.finishedAt === undefined ? {} : { finishedAt: terminated.finishedAt };
}
