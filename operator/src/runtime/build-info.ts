import { Gauge, type Registry } from "prom-client";

/** Registers `typevisor_build_info`: which of the operator's modes runs, and its version. */
export function buildInfo(registry: Registry, component: "controllers" | "node", version: string): void {
  new Gauge({
    name: "typevisor_build_info",
    help: "1, with the component that runs and its version.",
    labelNames: ["component", "version"],
    registers: [registry],
  }).set({ component, version }, 1);
}
