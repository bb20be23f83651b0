import type { IncomingMessage } from "node:http";
import { KubeConfig } from "@kubernetes/client-node/dist/config.js";
import WebSocket from "ws";
import { Client } from "../../../operator/src/runtime/client.ts";
import { ApiError, type ApiStatus, messageOf, TransportError } from "../../../operator/src/runtime/errors.ts";
import { connectionOf } from "../../../operator/src/runtime/kubeconfig.ts";
import type { ClusterOptions, Environment } from "../environment.ts";
import { CliError, exitCodes } from "../exit-codes.ts";
import { cliVersion } from "../version.ts";

/** The cluster that the user chose, and the namespace in it. */
export interface Cluster extends Disposable {
  readonly client: Client;
  readonly namespace: string;
  /** Name of the kubeconfig's context. */
  readonly context: string;
  /** e.g. "https://10.0.0.1:6443". */
  readonly server: string;
  /** Opens a stream of the API server such as exec, paused; an answer that is no upgrade is an ApiError. */
  stream(path: string, query: URLSearchParams): Promise<WebSocket>;
}

/** Whom `managedFields` name as the writer of what this program writes. */
export const FIELD_MANAGER = "kubectl-vm";

/** Messages between API server and client begin with the number of a stream (remotecommand.kubernetes.io). */
const STREAM_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/** Reads the kubeconfig as kubectl does; nothing is asked of the cluster yet. */
export function openCluster(options: ClusterOptions, environment: Pick<Environment, "variables">): Cluster {
  const config = loadKubeConfig(options, environment);
  const connection = connectionOf(config);
  const context = config.getContextObject(config.getCurrentContext());
  return {
    client: new Client(connection, { userAgent: `kubectl-vm/${cliVersion}` }),
    namespace: options.namespace ?? context?.namespace ?? "default",
    context: config.getCurrentContext(),
    server: connection.server,
    stream: (path, query) => openStream(config, `${connection.server}${path}`, query),
    [Symbol.dispose]: () => connection[Symbol.dispose](),
  };
}

/** Names of all contexts, for completion. */
export function contextNames(options: ClusterOptions, environment: Pick<Environment, "variables">): string[] {
  return loadFiles(options, environment)
    .getContexts()
    .map(({ name }) => name);
}

function loadKubeConfig(options: ClusterOptions, environment: Pick<Environment, "variables">): KubeConfig {
  const config = loadFiles(options, environment);
  if (options.context !== undefined) {
    if (config.getContextObject(options.context) === null) {
      const known = config.getContexts().map(({ name }) => name);
      throw new CliError(
        `--context: the kubeconfig has no context "${options.context}"; it has ${known.join(", ") || "none"}`,
        exitCodes.usage,
      );
    }
    config.setCurrentContext(options.context);
  }
  if (config.getCurrentCluster() === null) {
    throw new CliError(
      "the kubeconfig names no current cluster: choose one with --context, or set current-context",
      exitCodes.usage,
    );
  }
  return config;
}

function loadFiles({ kubeconfig }: ClusterOptions, { variables }: Pick<Environment, "variables">): KubeConfig {
  const config = new KubeConfig();
  const paths =
    kubeconfig === undefined ? variables["KUBECONFIG"]?.split(":").filter((path) => path !== "") : [kubeconfig];
  try {
    const [first, ...others] = paths ?? [];
    if (first === undefined) {
      config.loadFromDefault();
      return config;
    }
    config.loadFromFile(first);
    for (const path of others) {
      const next = new KubeConfig();
      next.loadFromFile(path);
      config.mergeConfig(next, true);
    }
    return config;
  } catch (error) {
    const flag = kubeconfig === undefined ? "the kubeconfig" : "--kubeconfig";
    throw new CliError(`${flag} cannot be read: ${messageOf(error)}`, exitCodes.usage);
  }
}

async function openStream(config: KubeConfig, url: string, query: URLSearchParams): Promise<WebSocket> {
  const request = `GET ${new URL(url).pathname}`;
  const options: WebSocket.ClientOptions = {};
  await config.applyToHTTPSOptions(options);
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}?${query}`, STREAM_PROTOCOLS, {
    ...options,
    perMessageDeflate: false,
  });
  const { promise, resolve, reject } = Promise.withResolvers<WebSocket>();
  socket.once("open", () => {
    // What the other side says at once must find its listener.
    socket.pause();
    resolve(socket);
  });
  socket.once("error", (error) => reject(new TransportError(request, error)));
  socket.once("unexpected-response", (_request, response) => {
    refusalOf(response, request).then(reject, reject);
  });
  return promise;
}

async function refusalOf(response: IncomingMessage, request: string): Promise<ApiError> {
  const text = Buffer.concat(await response.toArray()).toString("utf8");
  let status: ApiStatus = { message: text.slice(0, 500) };
  try {
    status = JSON.parse(text) as ApiStatus;
  } catch {
    // A proxy's words, not the API server's.
  }
  return new ApiError(response.statusCode ?? 0, status, request);
}
