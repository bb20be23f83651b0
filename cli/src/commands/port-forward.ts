import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { messageOf } from "../../../operator/src/runtime/errors.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { getRunningPod } from "../cluster/machines.ts";
import { openPort } from "../cluster/port-stream.ts";
import { type Environment, say } from "../environment.ts";
import { CliError, exitCodes } from "../exit-codes.ts";

/** A local port (0: any that is free) and the machine's. */
export interface PortPair {
  readonly local: number;
  readonly remote: number;
}

/** "8080:80", "80" (the same on both sides) or ":80" (any local port). */
export function parsePortPair(text: string): PortPair {
  const match = /^(?:(?<local>\d*):)?(?<remote>\d+)$/.exec(text);
  const remote = Number(match?.groups?.["remote"]);
  const localText = match?.groups?.["local"];
  const local = localText === undefined ? remote : Number(localText);
  if (match === null || remote < 1 || remote > 65535 || local > 65535) {
    throw new CliError(
      `"${text}" is no pair of ports: write LOCAL:REMOTE, REMOTE or :REMOTE, each 1 to 65535`,
      exitCodes.usage,
    );
  }
  return { local, remote };
}

/** `port-forward`: listens on this machine until it is interrupted; each connection is one to the machine. */
export async function forwardPorts(
  cluster: Cluster,
  name: string,
  options: { readonly pairs: readonly PortPair[]; readonly address: string },
  environment: Environment,
): Promise<void> {
  await getRunningPod(cluster, name);
  await using servers = new AsyncDisposableStack();
  for (const pair of options.pairs) {
    const server = servers.adopt(await listen(cluster, name, pair, options.address, environment), closeServer);
    const address = server.address();
    const local = typeof address === "object" && address !== null ? address.port : pair.local;
    environment.stdout.write(`Forwarding from ${options.address}:${local} to ${name}:${pair.remote}\n`);
  }
  if (!environment.signal.aborted) await once(environment.signal, "abort");
}

/** `port-forward --stdio`: one connection, on standard input and output. */
export async function forwardStdio(
  cluster: Cluster,
  name: string,
  port: number,
  environment: Environment,
): Promise<void> {
  const pod = await getRunningPod(cluster, name);
  const stream = await openPort(cluster, pod.metadata?.name ?? "", port);
  const { stdin, stdout, signal } = environment;
  const input = pipeline(stdin, stream, { signal }).catch(() => stream.destroy());
  for await (const bytes of stream as AsyncIterable<Buffer>) {
    if (!stdout.write(bytes) && stdout.on !== undefined) await once(stdout as never, "drain", { signal });
  }
  stdin.pause();
  await input;
}

async function listen(
  cluster: Cluster,
  name: string,
  { local, remote }: PortPair,
  host: string,
  environment: Environment,
): Promise<Server> {
  const server = createServer({ allowHalfOpen: false }, (socket) => {
    connect(cluster, name, remote, socket).catch((error: unknown) => {
      socket.destroy();
      say(environment, `error: a connection to ${name}:${remote} failed: ${messageOf(error)}`);
    });
  });
  server.listen({ port: local, host });
  try {
    await once(server, "listening");
  } catch (error) {
    throw new CliError(`cannot listen on ${host}:${local} (${messageOf(error)}); choose another local port`);
  }
  return server;
}

/** The pod is looked up anew, so that forwarding goes on after a restart of the machine. */
async function connect(cluster: Cluster, name: string, remote: number, socket: Socket): Promise<void> {
  socket.pause();
  const pod = await getRunningPod(cluster, name);
  const stream: Duplex = await openPort(cluster, pod.metadata?.name ?? "", remote);
  await pipeline(socket, stream, socket).catch((error: NodeJS.ErrnoException) => {
    // Either side may leave whenever it likes.
    if (error.code !== "ERR_STREAM_PREMATURE_CLOSE" && error.code !== "ECONNRESET") throw error;
  });
}

async function closeServer(server: Server): Promise<void> {
  server.close();
}
