import { formatTime } from "./clock.ts";

/** metav1.Condition. */
export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly observedGeneration: number;
  readonly lastTransitionTime: string;
  readonly reason: string;
  readonly message: string;
}

/** A condition before it is known when it last changed. */
export type ConditionDraft<C extends Condition = Condition> = Omit<C, "observedGeneration" | "lastTransitionTime">;

/** The drafts in their own order; `lastTransitionTime` moves only where `status` differs from before. */
export function settleConditions<C extends Condition>(
  previous: readonly Condition[] | undefined,
  drafts: readonly ConditionDraft<C>[],
  observedGeneration: number,
  nowMs: number,
): C[] {
  return drafts.map((draft) => {
    const before = previous?.find((condition) => condition.type === draft.type);
    const lastTransitionTime = before?.status === draft.status ? before.lastTransitionTime : formatTime(nowMs);
    return { ...draft, observedGeneration, lastTransitionTime } as C;
  });
}
