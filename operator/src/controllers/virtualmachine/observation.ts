import type { Reason } from "../../../../crds/src/reasons.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import type { LauncherStatus } from "../../../../launcher/api/control.ts";
import type { Pod } from "../../runtime/wire.ts";
import type { NodeCpu } from "../../scheduling/node-cpu.ts";
import type { StoredMigration } from "../virtualmachinemigration/stored.ts";
import type { Claims } from "./claims.ts";
import type { MovedDisk } from "./moved-disks.ts";

/** All that a decision is made from, besides the settings and the time. */
export interface Observation {
  /** With its disks on the claims that they were moved to, whatever claims its spec names for them. */
  readonly vm: VirtualMachine;
  /** Where that is so, and where it may come to be so. */
  readonly movedDisks: readonly MovedDisk[];
  /** The pod that the machine is in; or what has the name that its pod must have, whoever that belongs to. */
  readonly pod: Pod | undefined;
  /** The pod that the machine is to move to. */
  readonly incoming: Pod | undefined;
  /** All migrations of the machine that there still are. */
  readonly migrations: readonly StoredMigration[];
  /** The last pod of that name that is gone, as it was last seen: a deleted pod goes as soon as it has ended. */
  readonly departed: Pod | undefined;
  /** The pod's node: null when the pod has one that no longer exists, undefined when it has none. */
  readonly node: NodeFacts | null | undefined;
  /** All nodes; only where a pod waits for one. */
  readonly nodes: readonly NodeFacts[];
  readonly launcher: LauncherFacts | undefined;
  /** The claims that the machine's disks name, as far as they exist. */
  readonly claims: Claims;
  /** Other machines that have one of those claims, or come first to have it. */
  readonly rivals: readonly Rival[];
  /** The attachment pods of the machine: each holds the volume of a disk that came while it ran. */
  readonly attachments: readonly Pod[];
  /** Other machines whose pods have one of the claims, for disks that come while this one runs. */
  readonly attachmentRivals: readonly Rival[];
  /** What kubelets warned of about attachment pods, by their UIDs. */
  readonly attachmentWarnings: Readonly<Record<string, readonly PodWarning[]>>;
  /** By name of a disk, or key of an interface. */
  readonly deviceRefusals: Readonly<Record<string, DeviceRefusal>>;
  /** By claim. */
  readonly claimRefusals: Readonly<Record<string, ClaimRefusal>>;
  /** Why the last attempt to make the pod failed. */
  readonly refusal: Refusal | undefined;
  /** What kubelets warned of about the pod; undefined while that is not known. */
  readonly warnings: readonly PodWarning[] | undefined;
  /** Which authorities a pod made now would trust. */
  readonly trustId: string;
}

/** The API server would not have a claim as its template says by now. */
export interface ClaimRefusal {
  readonly requestBytes: number;
  readonly message: string;
  readonly atMs: number;
}

/** A disk or an interface could not be given to a running machine. */
export interface DeviceRefusal {
  readonly message: string;
  /** It is a matter of a moment. */
  readonly isPassing: boolean;
  /** Attempts in a row. */
  readonly count: number;
  readonly atMs: number;
}

/** Another machine that keeps this one from a claim. */
export interface Rival {
  readonly claimName: string;
  readonly vmName: string;
  /** It has a pod with the claim; or it has none yet, and is older. */
  readonly runs: boolean;
}

export interface NodeFacts {
  readonly name: string;
  /** The node's own condition; "Unknown" once it is silent. */
  readonly ready: "True" | "False" | "Unknown";
  /** Somebody says that the node is off for sure (taint node.kubernetes.io/out-of-service). */
  readonly outOfService: boolean;
  readonly kvmDevices: number;
  readonly memoryBytes: number;
  /** What its agent says of its processors: see scheduling/cpu-affinity.ts. */
  readonly cpu: NodeCpu | undefined;
}

/** An event of type Warning about a pod that has not started. */
export interface PodWarning {
  readonly reason:
    | "FailedMount"
    | "FailedAttachVolume"
    | "FailedMapVolume"
    | "FailedCreatePodSandBox"
    | "NetworkNotReady"
    | "FailedToRetrieveImagePullSecret";
  readonly note: string;
  /** When it was last seen, by the clock of who warned, in milliseconds since the epoch. */
  readonly atMs: number;
}

/** What a launcher said when it was last asked. */
export interface LauncherFacts {
  readonly podUID: string;
  /** When this operator first asked it, in milliseconds since the epoch. */
  readonly askedSinceMs: number;
  /** Its last answer; undefined when there was none yet. */
  readonly status: LauncherStatus | undefined;
  /** When that was, in milliseconds since the epoch. */
  readonly answeredAtMs: number;
  /** Why it did not answer the last time. */
  readonly error: string | undefined;
  /** The pod's readiness as it was when the launcher was asked: another one is a reason to ask again. */
  readonly readiness: string;
}

/** The API server would not have the pod. */
export interface Refusal {
  readonly reason: Extract<
    Reason,
    "NameConflict" | "QuotaExceeded" | "PodForbidden" | "PodInvalid" | "SpecInvalid" | "ApiError"
  >;
  readonly message: string;
  /** metadata.generation of the attempt. */
  readonly generation: number;
  /** Attempts in a row. */
  readonly count: number;
  readonly atMs: number;
}

/** The pod's Ready condition, in a form to compare. */
export function readinessOf(pod: Pod): string {
  const ready = pod.status?.conditions?.find((condition) => condition.type === "Ready");
  return `${ready?.status ?? "Unknown"} ${ready?.lastTransitionTime ?? ""}`;
}
