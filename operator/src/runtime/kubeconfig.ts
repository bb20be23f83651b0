import http from "node:http";
import https from "node:https";
import { KubeConfig } from "@kubernetes/client-node/dist/config.js";
import { ConfigError } from "./config-error.ts";
import type { Connection } from "./connection.ts";

/** Connection by a kubeconfig file, for running outside a cluster: client-node does the authentication. */
export function kubeConfigConnection(path: string, contextName?: string): Connection {
  const config = new KubeConfig();
  config.loadFromFile(path);
  if (contextName !== undefined) {
    if (config.getContextObject(contextName) === null) {
      throw new ConfigError("--context", `${path} has no context "${contextName}"`);
    }
    config.setCurrentContext(contextName);
  }
  if (config.getCurrentCluster() === null) {
    throw new ConfigError("--kubeconfig", `${path} names no current cluster; set current-context`);
  }
  return connectionOf(config);
}

/** Connection to the current cluster of a KubeConfig, which must have one. */
export function connectionOf(config: KubeConfig): Connection {
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new ConfigError("current-context", "names no cluster");
  }
  let current: { readonly key: string; readonly agent: http.Agent } | undefined;
  return {
    server: cluster.server.replace(/\/+$/, ""),
    prepare: async () => {
      const options: https.RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      const headers = { ...(options.headers as Record<string, string> | undefined) };
      if (typeof options.auth === "string") {
        headers["Authorization"] = `Basic ${Buffer.from(options.auth).toString("base64")}`;
      }
      if (cluster.proxyUrl !== undefined && cluster.proxyUrl !== "") {
        return { headers, agent: options.agent as http.Agent };
      }
      // client-node's own agent opens a connection a request; this one keeps them, until the credentials change.
      const { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized = true } = options;
      const identity = JSON.stringify([ca, cert, key, pfx]);
      if (current?.key !== identity) {
        current?.agent.destroy();
        const tls = { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized };
        const secure = cluster.server.startsWith("https:");
        const agent = secure ? new https.Agent({ keepAlive: true, ...tls }) : new http.Agent({ keepAlive: true });
        current = { key: identity, agent };
      }
      return { headers, agent: current.agent };
    },
    [Symbol.dispose]: () => current?.agent.destroy(),
  };
}
