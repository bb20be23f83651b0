import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { MachineControls } from "../machine/control-surface.ts";
import { listenOptions } from "../sys/listen-address.ts";
import { httpLimits, listen, protect } from "./http-limits.ts";
import { type MetricSource, prometheusText } from "./prometheus.ts";

export interface TelemetryParts {
  readonly machine: MachineControls;
  readonly sources: readonly MetricSource[];
  /** Labels of every metric. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Plain HTTP for kubelet and Prometheus: reads only, and nothing secret. */
export async function listenForTelemetry(
  parts: TelemetryParts,
  endpoint: { readonly address: string; readonly port: number },
): Promise<Server> {
  const server = createServer(httpLimits);
  const readiness = new Readiness();
  protect(server);
  server.on("request", (request, response) => answer(parts, readiness, request, response));
  await listen(server, listenOptions(endpoint));
  return server;
}

type TextAnswer = readonly [status: number, body: string, type?: string];

function answer(parts: TelemetryParts, readiness: Readiness, request: IncomingMessage, response: ServerResponse): void {
  const [status, body, type = "text/plain; charset=utf-8"] = answerTo(parts, readiness, request);
  response.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) });
  response.end(request.method === "HEAD" ? undefined : body);
}

function answerTo(parts: TelemetryParts, readiness: Readiness, request: IncomingMessage): TextAnswer {
  if (request.method !== "GET" && request.method !== "HEAD") return [405, "GET only\n"];
  switch (request.url?.split("?", 1)[0]) {
    case "/healthz":
      return [200, "ok\n"];
    case "/readyz":
      return readiness.answer(parts.machine);
    case "/metrics": {
      const metrics = parts.sources.flatMap((source) => [...source()]);
      return [200, prometheusText(metrics, parts.labels), "text/plain; version=0.0.4; charset=utf-8"];
    }
    default:
      return [404, "known are /healthz, /readyz, /metrics\n"];
  }
}

/** As often as a kubelet must hear it to believe it: failureThreshold of the pod's readiness probe. */
const REFUSALS_AFTER_REBOOT = 2;

/**
 * Ready means that vCPUs run a kernel: traffic has no use for a guest that is paused, has panicked or has just rebooted.
 * Each is seen in the pod's readiness, which is what brings the operator to ask.
 */
class Readiness {
  #reboots = 0;
  #refusals = 0;

  answer(machine: MachineControls): TextAnswer {
    const { state, message, guestPanicked, reboots } = machine.status();
    if (reboots !== this.#reboots) {
      this.#reboots = reboots;
      this.#refusals = REFUSALS_AFTER_REBOOT;
    }
    if (guestPanicked) return [503, "the guest's kernel has panicked\n"];
    if (state !== "Running" && state !== "Stopping") return [503, `the machine is ${state}: ${message}\n`];
    if (this.#refusals === 0) return [200, "ok\n"];
    this.#refusals--;
    return [503, "the guest has just rebooted\n"];
  }
}
