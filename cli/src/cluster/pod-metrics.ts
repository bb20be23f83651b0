import { Scrape } from "../metrics-text.ts";
import type { Cluster } from "./cluster.ts";

const SCRAPE_TIMEOUT_MS = 5_000;

export interface MetricsTarget {
  readonly namespace: string;
  readonly pod: string;
  readonly port: number | undefined;
}

/** What a pod tells Prometheus, read through the API server: nothing needs to reach the pod network from here. */
export async function readPodMetrics(cluster: Cluster, { namespace, pod, port }: MetricsTarget): Promise<Scrape> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}:${port}/proxy/metrics`;
  const body = await cluster.client.open(path, { signal: AbortSignal.timeout(SCRAPE_TIMEOUT_MS) });
  return new Scrape(Buffer.concat(await body.toArray()).toString("utf8"), performance.now());
}
