import type { Pod } from "../../../operator/src/runtime/wire.ts";
import { Scrape } from "../metrics-text.ts";
import type { Cluster } from "./cluster.ts";

const SCRAPE_TIMEOUT_MS = 5_000;
const AT_ONCE = 8;

/** Asks each of `pods` that runs, some at a time; answers as they come. */
export async function eachRunning<Answer>(pods: readonly Pod[], ask: (pod: Pod) => Promise<Answer>): Promise<Answer[]> {
  const answers: Answer[] = [];
  const queue = pods.filter(({ status }) => status?.phase === "Running");
  const worker = async () => {
    for (let pod = queue.shift(); pod !== undefined; pod = queue.shift()) answers.push(await ask(pod));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return answers;
}

/**
 * What a pod tells Prometheus at its port of that name, read through the API server: nothing needs to reach the pod network
 * from here.
 */
export async function readPodMetrics(cluster: Cluster, { metadata, spec }: Pod, portName: string): Promise<Scrape> {
  const ports = spec?.containers.flatMap((container) => container.ports ?? []) ?? [];
  const port = ports.find(({ name }) => name === portName)?.containerPort;
  const [namespace, pod] = [metadata?.namespace ?? "", metadata?.name ?? ""].map(encodeURIComponent);
  const path = `/api/v1/namespaces/${namespace}/pods/${pod}:${port}/proxy/metrics`;
  const body = await cluster.client.open(path, { signal: AbortSignal.timeout(SCRAPE_TIMEOUT_MS) });
  return new Scrape(Buffer.concat(await body.toArray()).toString("utf8"), performance.now());
}
