import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { MIB } from "../bench-launcher.ts";
import { MEMORY_MIB } from "./moving-guest.ts";
import type { PulseTask } from "./pulse-thread.ts";

/** Where the test guest counts the interrupts of its timer: TIMER_TICKS of launcher/testguest/guest.h. */
const TIMER_TICKS = 0x3000;

/**
 * A guest's ticker, seen from outside: how long its count stood still at most, in whichever process the guest is. The guest's
 * own clocks would not tell: QEMU's time stamp counter stands still while the guest does.
 */
export class Pulse implements Disposable {
  readonly #fds: readonly number[];
  readonly #worker: Worker;
  readonly #stop = new SharedArrayBuffer(4);

  private constructor(pids: readonly number[]) {
    this.#fds = pids.map((pid) => openSync(`/proc/${pid}/mem`, "r"));
    const looks = pids.map((pid, i) => ({ fd: this.#fds[i] ?? -1, position: memoryOf(pid) + TIMER_TICKS }));
    const workerData: PulseTask = { looks, stop: this.#stop };
    this.#worker = new Worker(join(import.meta.dirname, "pulse-thread.ts"), { workerData });
  }

  /** Resolves when it looks. */
  static async of(pids: readonly number[]): Promise<Pulse> {
    const pulse = new Pulse(pids);
    await once(pulse.#worker, "message");
    return pulse;
  }

  /** Milliseconds; ends the watch. */
  async longestMs(): Promise<number> {
    const said = once(this.#worker, "message");
    Atomics.store(new Int32Array(this.#stop), 0, 1);
    Atomics.notify(new Int32Array(this.#stop), 0);
    const [longestMs] = (await said) as [number];
    return longestMs;
  }

  [Symbol.dispose](): void {
    void this.#worker.terminate().then(() => {
      for (const fd of this.#fds) closeSync(fd);
    });
  }
}

/** The address of guest memory in a process: its only mapping of that size that can be written. */
function memoryOf(pid: number): number {
  for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
    const [, start = "", end = ""] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
    const address = Number.parseInt(start, 16);
    if (Number.parseInt(end, 16) - address === MEMORY_MIB * MIB) return address;
  }
  throw new Error(`process ${pid} has no mapping of ${MEMORY_MIB} MiB; is it a VMM that runs the test guest?`);
}
