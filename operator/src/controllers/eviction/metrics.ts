import { Counter, Gauge, type Registry } from "prom-client";

const outcomes = ["passed", "migrated", "moving", "refused", "failed"] as const;

export type EvictionOutcome = (typeof outcomes)[number];

export interface EvictionMetrics {
  answered(outcome: EvictionOutcome): void;
}

/** Registers `typevisor_eviction*`; `notAfterMs` is when the certificate of the webhook ends. */
export function evictionMetrics(registry: Registry, notAfterMs: () => number | undefined): EvictionMetrics {
  const registers = [registry];
  const answered = new Counter({
    name: "typevisor_evictions_total",
    help: "Evictions that this replica was asked about, by what came of it: passed (as with any pod), migrated (refused for now, and a migration begun), moving (refused while the machine moves), refused (the machine cannot move, or not yet; the message said why), failed (refused, since it could not be looked at). Clients try again every few seconds.",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of outcomes) answered.inc({ outcome }, 0);
  new Gauge({
    name: "typevisor_webhook_certificate_expiry_timestamp_seconds",
    help: "When the certificate by which this replica answers evictions ends, since the epoch; renewed at two thirds of its life.",
    registers,
    collect() {
      const atMs = notAfterMs();
      this.reset();
      if (atMs !== undefined) this.set(atMs / 1000);
    },
  });
  return { answered: (outcome) => answered.inc({ outcome }) };
}
