import { once } from "node:events";
import type { Cluster } from "../cluster/cluster.ts";
import { findPod, getMachine, LAUNCHER_CONTAINER } from "../cluster/machines.ts";
import type { Environment } from "../environment.ts";
import { CliError, exitCodes } from "../exit-codes.ts";

export interface LogsOptions {
  readonly follow: boolean;
  readonly tail?: number;
  /** Seconds. */
  readonly since?: number;
  readonly timestamps: boolean;
}

/** `logs`: the launcher's log as the kubelet keeps it. */
export async function showLogs(
  cluster: Cluster,
  name: string,
  options: LogsOptions,
  environment: Environment,
): Promise<void> {
  const machine = await getMachine(cluster, name);
  const pod = await findPod(cluster, machine);
  if (pod === undefined) {
    const phase = machine.status?.phase ?? "Pending";
    throw new CliError(
      `${name} has no pod, and so no log; it is ${phase}. kubectl vm describe ${name}`,
      exitCodes.notFound,
    );
  }
  const path = `/api/v1/namespaces/${encodeURIComponent(cluster.namespace)}/pods/${pod.metadata?.name}/log`;
  const query = {
    container: LAUNCHER_CONTAINER,
    follow: options.follow ? "true" : undefined,
    tailLines: options.tail?.toString(),
    sinceSeconds: options.since?.toString(),
    timestamps: options.timestamps ? "true" : undefined,
  };
  const log = await cluster.client.open(path, { query, signal: environment.signal });
  try {
    for await (const bytes of log as AsyncIterable<Buffer>) {
      if (!environment.stdout.write(bytes) && environment.stdout.on !== undefined) {
        await once(environment.stdout as never, "drain", { signal: environment.signal });
      }
    }
  } catch (error) {
    if (!environment.signal.aborted) throw error;
  }
}
