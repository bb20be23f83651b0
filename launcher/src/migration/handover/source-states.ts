import type { SourcePhase } from "../../../api/migration.ts";

export type SourceEvent =
  /** The target takes this machine. */
  | "welcomed"
  /** The guest stands still, for the last pass. */
  | "frozen"
  /** The target has all, and Commit is sent with this step. */
  | "prepared"
  /** The target said that the guest runs there. */
  | "running"
  /** Anything went wrong, or somebody cancelled: before Commit. */
  | "failed"
  /** No answer to Commit. */
  | "linkLost"
  | "decidedTarget"
  | "decidedSource"
  | "decidedNeither";

/** What each event leads to; one that is not listed cannot happen there. After Commit no event but a decision leads back. */
export const sourceTransitions: Readonly<Record<SourcePhase, Partial<Readonly<Record<SourceEvent, SourcePhase>>>>> = {
  Connecting: { welcomed: "Copying", failed: "Failed" },
  Copying: { frozen: "HandingOver", failed: "Failed" },
  HandingOver: { prepared: "Committed", failed: "Failed" },
  Committed: { running: "Gone", linkLost: "Undecided" },
  Undecided: { decidedTarget: "Gone", decidedSource: "Failed", decidedNeither: "Gone" },
  Gone: { decidedTarget: "Gone", decidedNeither: "Gone" },
  Failed: { decidedSource: "Failed" },
};

/** Whether the machine runs here in a phase, or is about to. */
export function sourceRuns(phase: SourcePhase): boolean {
  return phase === "Connecting" || phase === "Copying" || phase === "Failed";
}
