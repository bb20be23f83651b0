import { LAUNCHER_CONTAINER } from "../virtualmachine/names.ts";
import type { Situation } from "./situation.ts";

/** What keeps the target from listening, as far as its pod tells. */
export function whatTargetWaitsFor({ seen }: Situation): string {
  const { pod, heard } = seen.target ?? {};
  const name = pod?.metadata?.name;
  if (pod?.spec?.nodeName === undefined) {
    const scheduled = pod?.status?.conditions?.find(({ type }) => type === "PodScheduled");
    return scheduled?.reason === "Unschedulable"
      ? `Pod ${name} cannot be placed: ${scheduled.message ?? "the scheduler found no node"}`
      : `Pod ${name} waits for the scheduler`;
  }
  const container = pod.status?.containerStatuses?.find((each) => each.name === LAUNCHER_CONTAINER);
  const waiting = container?.state?.waiting;
  if (waiting !== undefined || container === undefined) {
    const why = waiting?.message ?? waiting?.reason;
    return `Pod ${name} is being started on node ${pod.spec.nodeName}${why === undefined ? "" : `: ${why}`}`;
  }
  const silence = heard?.error === undefined ? "" : `, and cannot be reached: ${heard.error}`;
  return `The launcher of pod ${name} prepares to take the machine over${silence}`;
}
