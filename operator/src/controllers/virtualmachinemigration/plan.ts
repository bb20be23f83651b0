import type { Reason } from "../../../../crds/src/reasons.ts";
import type { MigrationPhase, VirtualMachineMigrationStatus } from "../../../../crds/src/virtualmachinemigration.ts";
import type { HandOverDecision, MigrationRequest } from "../../../../launcher/api/migration.ts";
import type { EventDraft } from "../../runtime/event-recorder.ts";

/** Where a launcher is. */
export interface Where {
  readonly podUID: string;
  readonly ip: string;
}

/** One thing to do. They are done in order; the first that fails ends the pass. */
export type Action =
  | { readonly kind: "remove-finalizer" | "delete-migration" }
  | {
      readonly kind: "write-status";
      readonly status: VirtualMachineMigrationStatus;
      /** Of the VirtualMachine. */
      readonly events: readonly EventDraft[];
    }
  /** Makes the pod that the machine moves to. */
  | { readonly kind: "create-target"; readonly name: string }
  /** Asks a launcher after a while; the answer brings the next pass. */
  | { readonly kind: "follow"; readonly where: Where; readonly intervalMs: number }
  | { readonly kind: "start"; readonly where: Where; readonly request: MigrationRequest }
  | { readonly kind: "cancel"; readonly where: Where }
  | { readonly kind: "tell"; readonly where: Where; readonly winner: HandOverDecision }
  /** Writes on the target's pod what was decided. */
  | {
      readonly kind: "note-decision";
      readonly podUID: string;
      readonly podName: string;
      readonly decision: HandOverDecision;
    }
  /** Writes on the source's pod that the machine stays there, with its disks. */
  | { readonly kind: "note-stay"; readonly podUID: string; readonly podName: string }
  /** From here on the machine is in the target. */
  | { readonly kind: "take-over"; readonly podUID: string; readonly podName: string }
  | {
      readonly kind: "delete-pod";
      readonly podUID: string;
      readonly podName: string;
      readonly force: boolean;
      readonly note: string;
    };

export interface Decision {
  readonly actions: readonly Action[];
  /** When to look again though nothing happens, in milliseconds since the epoch. */
  readonly wakeAtMs?: number | undefined;
}

/** How the migration stands, and what is to be done. */
export interface Plan {
  readonly phase: MigrationPhase;
  readonly reason: Reason;
  readonly message: string;
  /** Before the status is written. */
  readonly before?: readonly Action[];
  /** After it. */
  readonly after?: readonly Action[];
  readonly wakeAtMs?: number | undefined;
  readonly changes?: Partial<VirtualMachineMigrationStatus>;
}
