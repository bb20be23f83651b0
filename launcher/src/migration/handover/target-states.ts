import type { TargetPhase } from "../../../api/migration.ts";

export type TargetEvent =
  /** The source is who it should be, and its machine fits here. */
  | "welcomed"
  /** All is loaded, and the source is told so. */
  | "prepared"
  /** The source's last word. */
  | "commit"
  /** Anything went wrong before all was loaded, or the source gave up before Commit. */
  | "failed"
  /** No Commit came, and none can come any more by this link. */
  | "linkLost"
  | "decidedTarget"
  | "decidedSource"
  | "decidedNeither";

/** As `sourceTransitions`. It runs after Commit, or when it is told to by who knows that the source does not. */
export const targetTransitions: Readonly<Record<TargetPhase, Partial<Readonly<Record<TargetEvent, TargetPhase>>>>> = {
  Listening: { welcomed: "Receiving", failed: "Failed", decidedSource: "Failed", decidedNeither: "Failed" },
  Receiving: { prepared: "Prepared", failed: "Failed", linkLost: "Failed" },
  // Who sees both sides may know before this one does that no Commit comes.
  Prepared: {
    commit: "Running",
    failed: "Failed",
    linkLost: "Undecided",
    decidedTarget: "Running",
    decidedSource: "Failed",
    decidedNeither: "Failed",
  },
  Undecided: { decidedTarget: "Running", decidedSource: "Failed", decidedNeither: "Failed" },
  Running: { decidedTarget: "Running" },
  Failed: { decidedSource: "Failed", decidedNeither: "Failed" },
};

export function targetRuns(phase: TargetPhase): boolean {
  return phase === "Running";
}
