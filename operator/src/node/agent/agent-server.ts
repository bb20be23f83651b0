import { chmodSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { AGENT_SOCKET_NAME } from "../../../../launcher/api/agent.ts";
import type { Logger } from "../../runtime/logger.ts";
import { AgentConnection } from "./agent-connection.ts";
import type { AgentMetrics } from "./agent-metrics.ts";
import type { GrantPaths } from "./grants.ts";
import { Offers } from "./offers.ts";
import type { PodCgroups } from "./pod-identity.ts";

const MAX_CONNECTIONS = 1024;
/** So that no pod can keep others from the agent; all that are no pods share one such limit. */
const MAX_CONNECTIONS_OF_POD = 16;

export interface AgentParts {
  /** Directory of the socket: it is mounted into pods, so it is never removed or replaced. */
  readonly directory: string;
  readonly paths: GrantPaths;
  readonly pods: Pick<PodCgroups, "podOf">;
  readonly log: Logger;
  readonly metrics: AgentMetrics;
  readonly version: string;
  /** Makes a path usable for containers where SELinux would forbid it. */
  readonly label: (path: string) => void;
}

/** Hands descriptors to launchers. Keeps no state: a restart loses nothing but connections, which holders make again. */
export class AgentServer implements AsyncDisposable {
  readonly #parts: AgentParts;
  readonly #server: Server;
  readonly #offers = new Offers();
  readonly #sockets = new Map<Socket, string | undefined>();

  constructor(parts: AgentParts) {
    this.#parts = parts;
    // A paused connection has not been read from by libuv, which would drop descriptors; and the peer is known first.
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on("error", (error) => parts.log.error({ err: error }, "agent socket failed"));
  }

  /** Takes the place of an earlier agent's socket in one step: a connect meets the one or the other. */
  async listen(): Promise<void> {
    const { directory, label } = this.#parts;
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    label(directory);
    const unready = join(directory, `.${AGENT_SOCKET_NAME}~`);
    rmSync(unready, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(unready, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
    // Pods run as any user: the kernel says who asks, not the mode.
    chmodSync(unready, 0o666);
    label(unready);
    renameSync(unready, join(directory, AGENT_SOCKET_NAME));
  }

  /** The socket's file stays: a connect to it is refused, and tried again until the next agent replaces it. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets.keys()) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    const connection = new AgentConnection(socket, this.#parts, this.#offers);
    const pod = connection.identify();
    this.#sockets.set(socket, pod);
    socket.once("close", () => this.#sockets.delete(socket));
    connection.start();
    const ofPod = [...this.#sockets.values()].filter((each) => each === pod).length;
    if (ofPod > MAX_CONNECTIONS_OF_POD) socket.destroy();
  }
}
