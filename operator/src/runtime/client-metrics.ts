import { Counter, Histogram, type Registry } from "prom-client";

/** What the API client counts, under client-go's names, so that existing dashboards work. */
export interface ClientMetrics {
  /** `code` is "<error>" when no answer came. */
  observe(verb: string, host: string, code: number | "<error>", seconds: number): void;
}

/** Registers `rest_client_requests_total` and `rest_client_request_duration_seconds`. */
export function clientMetrics(registry: Registry): ClientMetrics {
  const requests = new Counter({
    name: "rest_client_requests_total",
    help: "Number of requests to the API server, partitioned by status code, method, and host.",
    labelNames: ["code", "method", "host"],
    registers: [registry],
  });
  const duration = new Histogram({
    name: "rest_client_request_duration_seconds",
    help: "Request latency in seconds, broken down by verb and host. Watches count until their headers.",
    labelNames: ["verb", "host"],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers: [registry],
  });
  return {
    observe: (verb, host, code, seconds) => {
      requests.inc({ code: String(code), method: verb, host });
      duration.observe({ verb, host }, seconds);
    },
  };
}
