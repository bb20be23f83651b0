import { Counter, Gauge, type Registry } from "prom-client";

export interface EvictionMetrics {
  answered(outcome: "passed" | "refused" | "migrated" | "failed"): void;
}

/** Registers `typevisor_eviction*`; `notAfterMs` is when the certificate of the webhook ends. */
export function evictionMetrics(registry: Registry, notAfterMs: () => number | undefined): EvictionMetrics {
  const registers = [registry];
  const answered = new Counter({
    name: "typevisor_evictions_total",
    help: "Evictions that this replica was asked about, by what came of it: passed (as with any pod), migrated (refused for now, since the machine moves first), refused (the message said why), failed (refused, since it could not be looked at). Clients try again every few seconds.",
    labelNames: ["outcome"],
    registers,
  });
  for (const outcome of ["passed", "migrated", "refused", "failed"]) answered.inc({ outcome }, 0);
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
