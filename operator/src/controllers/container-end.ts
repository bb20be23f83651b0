import type { Pod } from "../runtime/wire.ts";

type ContainerStatus = NonNullable<NonNullable<Pod["status"]>["containerStatuses"]>[number];
type Terminated = NonNullable<NonNullable<ContainerStatus["state"]>["terminated"]>;

/** How a container of a pod ended. */
export interface ContainerEnd extends Terminated {
  /** Nobody saw it: the node was away, as when its power was cut. Whether the container ever ran is not known either. */
  readonly isUnknown: boolean;
}

/** Undefined while a container has not ended. */
export function containerEnd(pod: Pod, name: string): ContainerEnd | undefined {
  const terminated = pod.status?.containerStatuses?.find((status) => status.name === name)?.state?.terminated;
  if (terminated === undefined) return undefined;
  const { startedAt, finishedAt, ...rest } = terminated;
  return {
    ...rest,
    // The kubelet writes null for a time that it does not know (Go's zero metav1.Time), whatever the type here says.
    ...(startedAt ? { startedAt } : {}),
    ...(finishedAt ? { finishedAt } : {}),
    isUnknown: terminated.reason === "ContainerStatusUnknown",
  };
}
