import type { Disk } from "../../../../crds/src/disk.ts";
import type { Reason } from "../../../../crds/src/reasons.ts";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { DiskConfig, InterfaceConfig, LinkState } from "../../../../launcher/api/machine-config.ts";
import type { EventDraft } from "../../runtime/event-recorder.ts";
import type { PersistentVolumeClaim, Pod } from "../../runtime/wire.ts";
import type { Claims } from "./claims.ts";
import type { MultusNetwork } from "./interfaces.ts";
import type { Observation } from "./observation.ts";
import type { Settings } from "./settings.ts";
import type { StatusRecord, View } from "./status.ts";

/** One thing to do. They are done in order; the first that fails ends the pass. */
export type Action =
  /** Makes the machine's Secret and its pod. */
  | { readonly kind: "start"; readonly restarts: number; readonly claims: Claims }
  /** Makes the claim of a template, or keeps it as the template says. */
  | {
      readonly kind: "apply-claim";
      readonly claim: PersistentVolumeClaim;
      readonly requestBytes: number;
      readonly isNew: boolean;
    }
  | { readonly kind: "delete-pod"; readonly uid: string; readonly force: boolean; readonly note: string }
  /** Asks the launcher how it is, now and until it runs; the answer brings the next pass. */
  | { readonly kind: "ask-launcher"; readonly podUID: string; readonly ip: string; readonly readiness: string }
  | { readonly kind: "pause" | "resume"; readonly podUID: string; readonly ip: string }
  /** Has the disk in the running guest grow to `sizeBytes`. */
  | {
      readonly kind: "resize-disk";
      readonly podUID: string;
      readonly ip: string;
      readonly disk: string;
      readonly sizeBytes: number;
    }
  /** Changes how much the overlay of a disk in the running machine may take. */
  | {
      readonly kind: "limit-overlay";
      readonly podUID: string;
      readonly ip: string;
      readonly disk: string;
      readonly bytes: number;
    }
  /** Makes a pod on the launcher's node that has the volume of a disk, and hands it over. */
  | {
      readonly kind: "create-attachment";
      readonly name: string;
      readonly disk: Disk;
      readonly claimName: string;
      readonly claims: Claims;
      /** UID of the launcher's pod. */
      readonly launcherUID: string;
    }
  | { readonly kind: "delete-attachment"; readonly name: string; readonly uid: string; readonly note: string }
  /** Has the launcher give the running guest a disk, or ask for it back. */
  | { readonly kind: "attach-disk"; readonly podUID: string; readonly ip: string; readonly disk: DiskConfig }
  | { readonly kind: "detach-disk"; readonly podUID: string; readonly ip: string; readonly disk: string }
  /** Has the running pod ask Multus for these networks; null for none. */
  | { readonly kind: "ask-networks"; readonly podUID: string; readonly networks: readonly MultusNetwork[] | null }
  /** Has the launcher give the running guest an interface, or ask for it back. */
  | {
      readonly kind: "attach-interface";
      readonly podUID: string;
      readonly ip: string;
      readonly config: InterfaceConfig;
    }
  | {
      readonly kind: "detach-interface";
      readonly podUID: string;
      readonly ip: string;
      readonly interfaceName: string;
    }
  /** Plugs the cable of an interface in the running guest in or out. */
  | {
      readonly kind: "set-link";
      readonly podUID: string;
      readonly ip: string;
      readonly interfaceName: string;
      readonly state: LinkState;
    }
  /** Changes labels of the running pod; null takes one away. */
  | {
      readonly kind: "label-pod";
      readonly podUID: string;
      readonly labels: Readonly<Record<string, string | null>>;
      readonly annotations: Readonly<Record<string, string>>;
    }
  /** Has a launcher that nobody goes on from end, where its machine was to move to a pod that is gone. */
  | { readonly kind: "settle-hand-over"; readonly podUID: string; readonly ip: string }
  | { readonly kind: "renew-certificate"; readonly podUID: string }
  | { readonly kind: "write-status"; readonly status: VirtualMachineStatus; readonly events: readonly EventDraft[] };

export interface Decision {
  readonly actions: readonly Action[];
  /** When to look again though nothing happens, in milliseconds since the epoch. */
  readonly wakeAtMs?: number | undefined;
}

/** What one case of the decision comes to. */
export interface Plan {
  /** Absent: what is done brings the next pass at once, which writes a status that is true then. */
  readonly view?: View;
  readonly record: StatusRecord;
  /** Done before the status is written: what must be quick. */
  readonly before?: readonly Action[];
  /** Done after it: what destroys the evidence that the status records. */
  readonly after?: readonly Action[];
  readonly wakeAtMs?: number | undefined;
}

/** The case at hand. */
export interface Case {
  readonly observation: Observation;
  readonly settings: Settings;
  readonly nowMs: number;
  readonly previous: VirtualMachineStatus;
  /** What stays as it was unless something changes it. */
  readonly kept: StatusRecord;
}

/** Something is under way. */
export function underWay(reason: Reason, message: string): View {
  return { reason, message, ready: "False", running: "False", progress: "reconciling" };
}

/** Only a change by someone helps. */
export function stalled(reason: Reason, message: string): View {
  return { reason, message, ready: "False", running: "False", progress: "stalled" };
}

/** The machine is off, as it shall be. */
export function off(reason: Reason, message: string): View {
  return { reason, message, ready: "True", running: "False", progress: "done" };
}

/** The pod's node does not answer: the machine may run or not. */
export function nodeLost(pod: Pod): View {
  const node = pod.spec?.nodeName ?? "?";
  const message = `Node ${node} does not answer, and the machine may still run there. It starts elsewhere once pod ${pod.metadata?.name} is gone. If the node is off for sure, taint it: kubectl taint node ${node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`;
  return { reason: "NodeLost", message, ready: "Unknown", running: "Unknown", progress: "reconciling" };
}

/** Graceful unless forced; the note becomes the event's. */
export function deletePod(pod: Pod, note: string, force = false): Action {
  return { kind: "delete-pod", uid: pod.metadata?.uid ?? "", force, note };
}
