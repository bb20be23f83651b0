/** Looks at a count that grows in one of several processes, and says for how long it did not; see Pulse. */
import { readSync } from "node:fs";
import { setPriority } from "node:os";
import { parentPort, workerData } from "node:worker_threads";

export interface PulseTask {
  /** /proc/PID/mem, and where the count is in it. */
  readonly looks: readonly { readonly fd: number; readonly position: number }[];
  /** A word; the watch ends when it changes. */
  readonly stop: SharedArrayBuffer;
}

const LOOK_EVERY_MS = 0.1;

const { looks, stop } = workerData as PulseTask;
const bytes = new BigUint64Array(1);

/** Nothing of a process that has ended. */
function countAt({ fd, position }: PulseTask["looks"][number]): bigint {
  try {
    return readSync(fd, bytes, 0, 8, position) === 8 ? (bytes[0] ?? 0n) : 0n;
  } catch {
    return 0n;
  }
}

// Before the guest's own thread and those that copy: this one mostly sleeps. 0 is the calling thread (setpriority(2)).
setPriority(0, -20);
const word = new Int32Array(stop);
let count = 0n;
let changedMs = performance.now();
let longestMs = 0;
parentPort?.postMessage("looking");
while (Atomics.wait(word, 0, 0, LOOK_EVERY_MS) === "timed-out") {
  for (const look of looks) {
    const now = countAt(look);
    // What was copied of the count is behind what the source has counted to.
    if (now <= count) continue;
    count = now;
    const nowMs = performance.now();
    longestMs = Math.max(longestMs, nowMs - changedMs);
    changedMs = nowMs;
  }
}
parentPort?.postMessage(longestMs);
