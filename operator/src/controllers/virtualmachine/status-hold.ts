import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import { isSameRecord } from "./moved-disks.ts";

/** How long a status waits for the next one. */
export const STATUS_HOLD_MS = 500;

/**
 * Keeps back what is on its way to be another status in a moment: a machine's start goes through many states in its
 * first second, and each write of them is seen by every watch in the cluster. What somebody must act on, or an operator
 * that starts must know, is written at once.
 */
export class StatusHold {
  /** By UID of the VirtualMachine. */
  readonly #sinceMs = new Map<string, number>();

  /** How long `next` is to wait, in milliseconds; undefined: write it. */
  delayMs(uid: string, previous: VirtualMachineStatus, next: VirtualMachineStatus, nowMs: number): number | undefined {
    const sinceMs = this.#sinceMs.get(uid) ?? nowMs;
    const leftMs = sinceMs + STATUS_HOLD_MS - nowMs;
    if (!isPassing(next) || !hasSameRecord(previous, next) || leftMs <= 0) {
      this.#sinceMs.delete(uid);
      return undefined;
    }
    this.#sinceMs.set(uid, sinceMs);
    return leftMs;
  }

  forget(uid: string): void {
    this.#sinceMs.delete(uid);
  }
}

function isPassing({ phase, startedAt, conditions }: VirtualMachineStatus): boolean {
  const isStalled = conditions?.some(({ type, status }) => type === "Stalled" && status === "True");
  const isStarting = phase === "Pending" || phase === "Starting" || (phase === "Running" && startedAt === undefined);
  return isStarting && !isStalled;
}

/** What is counted, and is nowhere but in the status. */
function hasSameRecord(previous: VirtualMachineStatus, next: VirtualMachineStatus): boolean {
  return (
    (previous.restarts ?? 0) === (next.restarts ?? 0) &&
    (previous.failedStarts ?? 0) === (next.failedStarts ?? 0) &&
    (previous.consecutiveCrashes ?? 0) === (next.consecutiveCrashes ?? 0) &&
    isSameRecord(previous.movedDisks, next.movedDisks) &&
    previous.lastTermination?.podUID === next.lastTermination?.podUID &&
    previous.nextStartTime === next.nextStartTime
  );
}
