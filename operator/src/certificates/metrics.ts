import { Gauge, type Registry } from "prom-client";

/** When certificates end, in milliseconds since the epoch; undefined where there is none yet. */
export interface CertificateExpiry {
  readonly authorityMs: number | undefined;
  readonly operatorMs: number | undefined;
}

/** Registers `typevisor_certificate_expiry_timestamp_seconds`, which the leader alone has values of. */
export function certificateMetrics(registry: Registry, expiry: () => CertificateExpiry): void {
  new Gauge({
    name: "typevisor_certificate_expiry_timestamp_seconds",
    help: "When a certificate ends, since the epoch: the authority's, which is renewed long before, and the one by which the operator speaks to launchers, which is renewed when it is next used.",
    labelNames: ["certificate"],
    registers: [registry],
    collect() {
      const { authorityMs, operatorMs } = expiry();
      this.reset();
      if (authorityMs !== undefined) this.set({ certificate: "authority" }, authorityMs / 1000);
      if (operatorMs !== undefined) this.set({ certificate: "operator" }, operatorMs / 1000);
    },
  });
}
