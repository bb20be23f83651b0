import type { Termination, VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { RunStrategy } from "../../../../crds/src/virtualmachine.ts";
import { doubling } from "../../runtime/back-off.ts";
import { classOf, runDurationMs } from "./termination.ts";

/** Delays before the next start, as the kubelet has them for containers. */
const CRASH_MIN_DELAY_MS = 10_000;
const CRASH_MAX_DELAY_MS = 300_000;
/** A run of this length ends a row of crashes. */
export const STABLE_RUN_MS = 10 * 60_000;
/** Pods that never started: no fault of the machine, so shorter. */
const FAILED_START_MIN_DELAY_MS = 1_000;
const FAILED_START_MAX_DELAY_MS = 60_000;
/** A guest that powers itself off at once and is to run always. */
const POWER_OFF_MIN_PERIOD_MS = 10_000;

/** How often things went wrong in a row. */
export interface Counters {
  readonly consecutiveCrashes: number;
  readonly failedStarts: number;
}

/** The counters after one more end. */
export function countEnd(status: VirtualMachineStatus | undefined, termination: Termination): Counters {
  const crashes = status?.consecutiveCrashes ?? 0;
  const failedStarts = status?.failedStarts ?? 0;
  switch (classOf(termination)) {
    case "crash":
      return { consecutiveCrashes: runDurationMs(termination) >= STABLE_RUN_MS ? 1 : crashes + 1, failedStarts: 0 };
    case "never-started":
      return { consecutiveCrashes: crashes, failedStarts: failedStarts + 1 };
    case "success":
      return { consecutiveCrashes: 0, failedStarts: 0 };
    case "disruption":
      return { consecutiveCrashes: crashes, failedStarts: 0 };
  }
}

/** Whether a machine that ended so is started again. */
export function startsAgain(strategy: RunStrategy, termination: Termination): boolean {
  const end = classOf(termination);
  switch (strategy) {
    case "Halted":
      return false;
    case "Always":
      return true;
    case "RerunOnFailure":
      return end !== "success";
    case "Once":
      return end === "never-started";
  }
}

/** How long after its end a machine is started again, in milliseconds. */
export function restartDelayMs(termination: Termination, counters: Counters): number {
  switch (classOf(termination)) {
    case "crash":
      return doubling(CRASH_MIN_DELAY_MS, CRASH_MAX_DELAY_MS, counters.consecutiveCrashes);
    case "never-started":
      return doubling(FAILED_START_MIN_DELAY_MS, FAILED_START_MAX_DELAY_MS, counters.failedStarts);
    case "success":
      return Math.max(0, POWER_OFF_MIN_PERIOD_MS - runDurationMs(termination));
    case "disruption":
      return 0;
  }
}
