import { Counter, Histogram, type Registry } from "prom-client";
import type { AgentErrorCode, AgentWant, TapGrant } from "../../../../launcher/api/agent.ts";

interface Answered {
  readonly want: readonly AgentWant[];
  readonly taps: readonly TapGrant[];
  readonly code: AgentErrorCode | undefined;
  readonly tookMs: number;
}

/** Counts what the agent handed out and refused. */
export class AgentMetrics {
  readonly #requests: Counter<"code">;
  readonly #granted: Counter<"kind">;
  readonly #taps: Counter<"binding" | "data_path">;
  readonly #duration: Histogram;

  constructor(registry: Registry) {
    this.#requests = new Counter({
      name: "typevisor_agent_requests_total",
      help: "Requests of launchers by result.",
      labelNames: ["code"],
      registers: [registry],
    });
    this.#granted = new Counter({
      name: "typevisor_agent_descriptors_granted_total",
      help: "File descriptors handed to launchers by kind.",
      labelNames: ["kind"],
      registers: [registry],
    });
    this.#taps = new Counter({
      name: "typevisor_agent_taps_wired_total",
      help: "TAPs made and wired in pods' network namespaces by binding, and by what carries their frames.",
      labelNames: ["binding", "data_path"],
      registers: [registry],
    });
    this.#duration = new Histogram({
      name: "typevisor_agent_request_duration_seconds",
      help: "Time from a request's last byte to its answer.",
      buckets: [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
      registers: [registry],
    });
  }

  answered({ want, taps, code, tookMs }: Answered): void {
    this.#requests.inc({ code: code ?? "OK" });
    this.#duration.observe(tookMs / 1000);
    if (code !== undefined) return;
    for (const { kind } of want) this.#granted.inc({ kind });
    const bindings = want.flatMap((item) => (item.kind === "tap" ? [item.binding.kind] : []));
    for (const [index, binding] of bindings.entries())
      this.#taps.inc({ binding, data_path: taps[index]?.vhost ? "vhost-net" : "inProcess" });
  }
}
