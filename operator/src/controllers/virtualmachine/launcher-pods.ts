import type { HandOverDecision } from "../../../../launcher/api/migration.ts";
import { controllerOf, type Pod } from "../../runtime/wire.ts";
import { annotations } from "./names.ts";

/** The pods of one machine, told apart. */
export interface LauncherPods {
  /** The one that counts: the machine's own, or else whatever has a name that the machine's pod would have. */
  readonly pod: Pod | undefined;
  /** A machine is to move there, and has not. While it is there, whether the machine may start afresh is the migration's to say. */
  readonly incoming: Pod | undefined;
  /** The machine has moved away from it. */
  readonly left: Pod | undefined;
}

/** `named`: what has the names of a machine's pods; `uid`: the machine's. */
export function launcherPodsOf(named: readonly Pod[], uid: string): LauncherPods {
  const own = named.filter((pod) => controllerOf(pod)?.uid === uid);
  const incoming = own.find(isIncoming);
  const present = own.filter((pod) => pod !== incoming);
  const [newest = named.find((pod) => !own.includes(pod))] = present.filter(
    (pod) => !present.some((other) => hasTakenOverFrom(other, pod.metadata?.uid)),
  );
  return { pod: newest, incoming, left: present.find((pod) => pod !== newest) };
}

/** A pod that waits to take its machine over. */
export function isIncoming(pod: Pod): boolean {
  const marks = pod.metadata?.annotations;
  return marks?.[annotations.takesOverFrom] !== undefined && marks[annotations.tookOver] === undefined;
}

/** The machine moved into `pod` from the pod of that UID. */
export function hasTakenOverFrom(pod: Pod, uid: string | undefined): boolean {
  return uid !== undefined && !isIncoming(pod) && pod.metadata?.annotations?.[annotations.takesOverFrom] === uid;
}

/** Whether the run that is known of the pod `podUID` is the one in `pod`: the same pod, or one that took over from it. */
export function isSameRun(pod: Pod, podUID: string | undefined): boolean {
  return podUID !== undefined && (pod.metadata?.uid === podUID || hasTakenOverFrom(pod, podUID));
}

/** What was decided of the hand-over to `pod`. */
export function notedDecision(pod: Pod | undefined): HandOverDecision | undefined {
  const noted = pod?.metadata?.annotations?.[annotations.handOver];
  return noted === "source" || noted === "target" || noted === "neither" ? noted : undefined;
}
