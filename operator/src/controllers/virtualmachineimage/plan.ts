import type { VirtualMachineImageStatus } from "../../../../crds/src/virtualmachineimage.ts";
import type { EventDraft } from "../../runtime/event-recorder.ts";
import type { ClaimFacts, StorageClassFacts } from "./observation.ts";

/** One thing to do. They are done in order; the first that fails ends the pass. */
export type Action =
  /** Makes the claim that is filled. */
  | { readonly kind: "create-prime"; readonly claim: ClaimFacts; readonly backing: StorageClassFacts }
  /** Makes the importer's pod. */
  | {
      readonly kind: "create-pod";
      readonly claim: ClaimFacts;
      readonly prime: ClaimFacts;
      readonly source: ClaimFacts | undefined;
    }
  | { readonly kind: "delete-pod"; readonly namespace: string; readonly name: string; readonly uid: string }
  | { readonly kind: "delete-claim"; readonly namespace: string; readonly name: string; readonly uid: string }
  /** Says on the claim how far it is. */
  | { readonly kind: "mark-claim"; readonly claim: ClaimFacts; readonly state: string }
  /** Makes the filled volume that of the claim. */
  | { readonly kind: "hand-over"; readonly claim: ClaimFacts; readonly prime: ClaimFacts; readonly volumeName: string }
  /** Looks at the volume of a claim that is bound, whether it was filled. */
  | { readonly kind: "check-volume"; readonly claim: ClaimFacts; readonly volumeName: string }
  /** Asks the importer how far it is, now and until it ends. */
  | { readonly kind: "ask-importer"; readonly podUID: string; readonly ip: string }
  | { readonly kind: "tell"; readonly claim: ClaimFacts; readonly event: EventDraft }
  | { readonly kind: "write-status"; readonly status: VirtualMachineImageStatus };

export interface Decision {
  readonly actions: readonly Action[];
  /** When to look again though nothing happens, in milliseconds since the epoch. */
  readonly wakeAtMs?: number | undefined;
}
