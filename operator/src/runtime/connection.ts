import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";

/** How to reach and convince one API server. */
export interface Connection extends Disposable {
  /** e.g. "https://10.96.0.1:443", without a trailing slash. */
  readonly server: string;
  /** Headers and agent for the next request; asked again for each, since tokens rotate. */
  prepare(): Promise<{ readonly headers: Record<string, string>; readonly agent: http.Agent }>;
}

/** Where the kubelet puts a pod's credentials. */
export const SERVICE_ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The kubelet renews projected tokens long before they end; client-go reads them again as often. */
const TOKEN_REREAD_MS = 60_000;

/** True in a pod with a service account token. */
export function isInCluster(environment: NodeJS.ProcessEnv): boolean {
  return environment["KUBERNETES_SERVICE_HOST"] !== undefined && environment["KUBERNETES_SERVICE_PORT"] !== undefined;
}

/**
 * Connection of a pod by its service account. Written here rather than taken from client-node, whose KubeConfig
 * costs 86 MB of memory to import.
 */
export function inClusterConnection(
  environment: NodeJS.ProcessEnv,
  directory: string = SERVICE_ACCOUNT_DIRECTORY,
): Connection {
  const host = environment["KUBERNETES_SERVICE_HOST"] ?? "";
  const bracketed = host.includes(":") ? `[${host}]` : host;
  const agent = new https.Agent({ keepAlive: true, ca: readFileSync(`${directory}/ca.crt`) });
  let token = "";
  let readAt = Number.NEGATIVE_INFINITY;
  return {
    server: `https://${bracketed}:${environment["KUBERNETES_SERVICE_PORT"] ?? "443"}`,
    prepare: async () => {
      if (performance.now() - readAt >= TOKEN_REREAD_MS) {
        token = (await readFile(`${directory}/token`, "utf8")).trim();
        readAt = performance.now();
      }
      return { headers: { Authorization: `Bearer ${token}` }, agent };
    },
    [Symbol.dispose]: () => agent.destroy(),
  };
}

/** Connection without credentials over plain HTTP, for a server on the loopback interface. */
export function plainConnection(server: string): Connection {
  const agent = new http.Agent({ keepAlive: true });
  return {
    server,
    prepare: async () => ({ headers: {}, agent }),
    [Symbol.dispose]: () => agent.destroy(),
  };
}
