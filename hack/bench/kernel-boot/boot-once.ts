/**
 * Boots one guest and tells when its console showed what, and why the guest left to user space until then. Runs in the
 * lab, beside the guest, so that no ssh is timed: one file without imports of its own. A BootOrder on standard input,
 * a BootResult on standard output.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync, watch, writeFileSync } from "node:fs";
import { request } from "node:http";
import { basename, dirname } from "node:path";
import type { Readable } from "node:stream";
import type { LauncherStatus } from "../../../launcher/api/control.ts";

export interface BootOrder {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** A launcher's; the console of anything else is its standard output. */
  readonly controlSocket?: string;
  /** What the console shows, in this order. */
  readonly marks: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

export type Counts = Readonly<Record<string, number>>;

export interface BootMark {
  /** Since the process was started. */
  readonly ms: number;
  /** Returns from KVM_RUN by reason, of all processors; null where the kernel has no such tracepoint. */
  readonly userspaceExits: Counts | null;
  /** A launcher's. */
  readonly status: LauncherStatus | null;
  readonly consoleCharacters: number;
}

export type BootResult = Readonly<Record<string, BootMark>>;

const TRACEPOINT = "/sys/kernel/tracing/events/kvm/kvm_userspace_exit";
const HISTOGRAM = "hist:keys=reason,errno";
/** KVM_EXIT_* of linux/kvm.h. */
const exitReasons: Readonly<Record<number, string>> = {
  2: "io",
  5: "hlt",
  6: "mmio",
  7: "irq-window-open",
  8: "shutdown",
  10: "interrupted",
  12: "tpr-access",
  24: "system-event",
  26: "ioapic-eoi",
  29: "rdmsr",
  30: "wrmsr",
};

/** The kernel's count of exits to user space, anew for each boot. */
class UserspaceExits implements Disposable {
  readonly #isThere = existsSync(`${TRACEPOINT}/trigger`);

  constructor() {
    if (!this.#isThere) return;
    this.#clear();
    writeFileSync(`${TRACEPOINT}/trigger`, HISTOGRAM);
  }

  read(): Counts | null {
    if (!this.#isThere) return null;
    const counts: Record<string, number> = {};
    const lines = readFileSync(`${TRACEPOINT}/hist`, "utf8").matchAll(
      /reason:\s*(\d+), errno:\s*(-?\d+)\s*\} hitcount:\s*(\d+)/g,
    );
    for (const [, reason, errno, count] of lines) {
      // An error, EINTR as a rule, comes with the reason of the exit before.
      const name = errno === "0" ? (exitReasons[Number(reason)] ?? `reason ${reason}`) : "interrupted";
      counts[name] = (counts[name] ?? 0) + Number(count);
    }
    return counts;
  }

  #clear(): void {
    const isSet = readFileSync(`${TRACEPOINT}/trigger`, "utf8").includes("hist:");
    if (isSet) writeFileSync(`${TRACEPOINT}/trigger`, `!${HISTOGRAM}`);
  }

  [Symbol.dispose](): void {
    if (this.#isThere) this.#clear();
  }
}

async function bootOnce(order: BootOrder): Promise<BootResult> {
  using exits = new UserspaceExits();
  const [program = "", ...args] = order.argv;
  const startedMs = performance.now();
  const child = spawn(program, args, {
    env: { ...process.env, ...order.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  try {
    return await withinTime(order, child, async (shown) => {
      const { controlSocket } = order;
      const seen: Record<string, BootMark> = {};
      const waiting = new Map(Object.entries(order.marks));
      for await (const chunk of controlSocket ? await launcherConsole(controlSocket) : child.stdout) {
        shown.text += String(chunk);
        for (const [name, mark] of waiting) {
          if (!shown.text.includes(mark)) break;
          waiting.delete(name);
          const ms = performance.now() - startedMs;
          const userspaceExits = exits.read();
          const status = controlSocket ? await launcherStatus(controlSocket) : null;
          seen[name] = { ms, userspaceExits, status, consoleCharacters: shown.text.length };
        }
        if (waiting.size === 0) break;
      }
      return seen;
    });
  } finally {
    child.kill("SIGKILL");
  }
}

/** Rejects when the process ends or the time is over before `work` is done, with what was shown until then. */
async function withinTime<T>(
  order: BootOrder,
  child: ChildProcess,
  work: (shown: { text: string }) => Promise<T>,
): Promise<T> {
  const shown = { text: "" };
  let errors = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  // A launcher's log.
  if (order.controlSocket)
    child.stdout?.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
  const { promise: failed, reject } = Promise.withResolvers<never>();
  const fail = (what: string) => reject(new Error(`${what}\n${shown.text.slice(-2000)}\n${errors.slice(-2000)}`));
  child.on("error", (error) => fail(error.message));
  child.on("exit", (code, signal) => fail(`${order.argv[0]} ended with ${code ?? signal}`));
  const timer = setTimeout(() => fail(`nothing more within ${order.timeoutMs / 1000} s`), order.timeoutMs);
  try {
    return await Promise.race([work(shown), failed]);
  } finally {
    clearTimeout(timer);
  }
}

/** The console that the kernel's command line names, from the first byte on. */
async function launcherConsole(socketPath: string): Promise<Readable> {
  await appears(socketPath);
  for (;;) {
    try {
      return await attach(socketPath);
    } catch (error) {
      // Bound, and not yet listening.
      if ((error as NodeJS.ErrnoException).code !== "ECONNREFUSED") throw error;
    }
  }
}

function attach(socketPath: string): Promise<Readable> {
  return new Promise((resolve, reject) => {
    request({
      socketPath,
      path: "/v1/console?access=read&history=true",
      headers: { Connection: "Upgrade", Upgrade: "typevisor-console" },
    })
      .on("upgrade", (_response, socket, head) => {
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      })
      .on("response", ({ statusCode }) => reject(new Error(`the console was refused with ${statusCode}`)))
      .on("error", reject)
      .end();
  });
}

/** Nothing is polled: that would take processor time from the start that is measured. */
function appears(path: string): Promise<void> {
  return new Promise((resolve) => {
    const watcher = watch(dirname(path), (_event, name) => {
      if (name === basename(path)) settle();
    });
    const settle = () => {
      watcher.close();
      resolve();
    };
    if (existsSync(path)) settle();
  });
}

function launcherStatus(socketPath: string): Promise<LauncherStatus> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path: "/v1/status" }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => resolve(JSON.parse(text) as LauncherStatus));
    })
      .on("error", reject)
      .end();
  });
}

const order = JSON.parse(readFileSync(0, "utf8")) as BootOrder;
try {
  process.stdout.write(JSON.stringify(await bootOnce(order)));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}
// The sockets of a process that was killed.
process.exit();
