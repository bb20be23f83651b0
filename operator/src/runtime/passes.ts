import { ApiError, messageOf } from "./errors.ts";
import type { Logger } from "./logger.ts";
import type { PassFailed } from "./pass-metrics.ts";
import type { WorkQueue } from "./work-queue.ts";

/** One controller's passes over its objects. */
export interface Passes {
  readonly queue: WorkQueue;
  /** At the same time, each over another object. */
  readonly workers: number;
  /** One pass over the object of that key. */
  readonly reconcile: (key: string) => Promise<void>;
  /** What a pass is over, with its article: "a VirtualMachine". */
  readonly over: string;
  readonly logger: Logger;
  /** Told of each pass that failed, which comes again. */
  readonly onFailed: PassFailed | undefined;
}

/** Works until `signal` is aborted, and then until what was begun is done. */
export async function runPasses(passes: Passes, signal: AbortSignal): Promise<void> {
  const { queue, workers, reconcile, over, logger, onFailed } = passes;
  signal.addEventListener("abort", () => queue.close(), { once: true });
  await queue.run(workers, reconcile, (key, error) => {
    // The watch brings what is new.
    const expected = error instanceof ApiError && (error.isConflict || error.isNotFound);
    const fields = { key, err: messageOf(error), failures: queue.failures(key) + 1 };
    logger[expected ? "debug" : "warn"](fields, `A pass over ${over} failed; tries again`);
    onFailed?.(expected ? "conflict" : "error");
  });
}
