import { Counter, type Registry } from "prom-client";

const outcomes = ["conflict", "error"] as const;

/** Why a pass failed: "conflict" where somebody else was faster, or the object is gone. */
export type PassFailure = (typeof outcomes)[number];

/** Counts a pass that failed. */
export type PassFailed = (outcome: PassFailure) => void;

/** Registers `typevisor_reconcile_failures_total`; answers what counts for one controller. */
export function passMetrics(registry: Registry): (controller: string) => PassFailed {
  const failures = new Counter({
    name: "typevisor_reconcile_failures_total",
    help: "Passes of a controller over one of its objects that failed and are tried again, by outcome: conflict (somebody else was faster, or the object is gone) or error. Controllers have the names of their work queues.",
    labelNames: ["controller", "outcome"],
    registers: [registry],
  });
  return (controller) => {
    // A first one would not be seen by increase().
    for (const outcome of outcomes) failures.inc({ controller, outcome }, 0);
    return (outcome) => failures.inc({ controller, outcome });
  };
}
