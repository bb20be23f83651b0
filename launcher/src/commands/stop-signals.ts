import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";

/**
 * SIGTERM, SIGHUP and SIGINT ask the machine to power off within its grace period.
 * A second SIGINT (Ctrl-C at a terminal) switches it off. A second SIGTERM does not: the kubelet repeats it.
 */
export class StopSignals {
  readonly #powerOffTimeoutMs: number;
  readonly #log: Logger;
  readonly #stopping = new AbortController();
  #stop: ((timeoutMs: number) => Promise<void>) | undefined;

  constructor(powerOffTimeoutMs: number, log: Logger) {
    this.#powerOffTimeoutMs = powerOffTimeoutMs;
    this.#log = log;
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => this.#received(signal));
  }

  /** Aborts with the first signal. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** From now on signals stop the machine by this. */
  stopBy(stop: (timeoutMs: number) => Promise<void>): void {
    this.#stop = stop;
  }

  #received(signal: NodeJS.Signals): void {
    const again = this.#stopping.signal.aborted;
    const timeoutMs = again && signal === "SIGINT" ? 0 : this.#powerOffTimeoutMs;
    this.#log.info(`received ${signal}`, { reason: "StopRequested", timeoutMs });
    this.#stopping.abort(new Error(`received ${signal}`));
    this.#stop?.(timeoutMs).catch((error: unknown) => {
      this.#log.error("stop failed", { reason: "StopFailed", error: errorText(error) });
    });
  }
}
