import type { Observation } from "./observation.ts";

const MIN_MS = 1_000;
const MAX_MS = 60_000;
const SHARE = 1 / 4;

/** When a launcher that has to wait for its guest is asked again: after a share of the time that it took so far. */
export function askAgainAtMs({ vm, launcher }: Observation, nowMs: number): number {
  const reconciling = vm.status?.conditions?.find(({ type }) => type === "Reconciling");
  const sinceMs = reconciling?.status === "True" ? Date.parse(reconciling.lastTransitionTime ?? "") : nowMs;
  return (launcher?.answeredAtMs ?? 0) + Math.min(MAX_MS, Math.max(MIN_MS, (nowMs - sinceMs) * SHARE || 0));
}
