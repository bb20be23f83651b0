import { statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Server, ServerCredentials, type ServerWritableStream } from "@grpc/grpc-js";
import { AGENT_MOUNT_PATH } from "../../../../launcher/api/agent.ts";
import {
  type AllocateRequest,
  type AllocateResponse,
  type DevicePluginProtocol,
  type DevicePluginService,
  type ListAndWatchResponse,
  serviceOf,
} from "./protocol.ts";

export interface DevicePluginOffer {
  /** How many machines the node takes at most: each device is one. */
  readonly deviceCount: number;
  /** The agent's directory, on the node. */
  readonly agentDirectory: string;
}

type Stream = ServerWritableStream<Readonly<Record<string, never>>, ListAndWatchResponse>;

/** The plugin's side of the protocol on one socket. A kubelet that starts removes the socket: then make another one. */
export class DevicePluginServer implements AsyncDisposable {
  readonly socketPath: string;
  readonly #offer: DevicePluginOffer;
  readonly #onAbandoned: () => void;
  readonly #server = new Server();
  readonly #streams = new Set<Stream>();
  #healthy: boolean;
  #identity = "";
  #closing = false;

  /** `onAbandoned` is called when the kubelet, while it is there, stops to watch. */
  constructor(
    protocol: DevicePluginProtocol,
    offer: DevicePluginOffer,
    where: { readonly socketPath: string; readonly healthy: boolean; readonly onAbandoned: () => void },
  ) {
    this.#offer = offer;
    this.socketPath = where.socketPath;
    this.#healthy = where.healthy;
    this.#onAbandoned = where.onAbandoned;
    const service: DevicePluginService = {
      GetDevicePluginOptions: (_call, answer) => answer(null, {}),
      ListAndWatch: (stream) => this.#watch(stream),
      Allocate: (call, answer) => answer(null, this.#allocate(call.request)),
    };
    this.#server.addService(serviceOf(protocol.DevicePlugin), service);
  }

  async listen(): Promise<void> {
    await rm(this.socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.bindAsync(`unix://${this.socketPath}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    this.#identity = fileIdentity(this.socketPath) ?? "";
  }

  /** True while the socket's file is the one that this server made. */
  get hasItsSocket(): boolean {
    return this.#identity !== "" && fileIdentity(this.socketPath) === this.#identity;
  }

  get watchers(): number {
    return this.#streams.size;
  }

  setHealthy(healthy: boolean): void {
    if (healthy === this.#healthy) return;
    this.#healthy = healthy;
    for (const stream of this.#streams) stream.write(this.#list());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    this.#server.forceShutdown();
  }

  #watch(stream: Stream): void {
    this.#streams.add(stream);
    stream.once("cancelled", () => {
      this.#streams.delete(stream);
      if (!this.#closing && this.#streams.size === 0) this.#onAbandoned();
    });
    stream.on("error", () => this.#streams.delete(stream));
    stream.write(this.#list());
  }

  #list(): ListAndWatchResponse {
    const health = this.#healthy ? "Healthy" : "Unhealthy";
    return { devices: Array.from({ length: this.#offer.deviceCount }, (_, i) => ({ ID: `kvm-${i}`, health })) };
  }

  /** Answers at once, whatever the agent does: the kubelet admits no pod meanwhile. */
  #allocate(request: AllocateRequest): AllocateResponse {
    const mount = { container_path: AGENT_MOUNT_PATH, host_path: this.#offer.agentDirectory, read_only: true };
    return { container_responses: request.container_requests.map(() => ({ mounts: [mount] })) };
  }
}

/** Tells one file from a later one of the same name; undefined where there is none. */
export function fileIdentity(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}:${stat.ctimeNs}`;
}

/** Path of the plugin's socket in the kubelet's directory. */
export function pluginSocketPath(directory: string): string {
  return join(directory, PLUGIN_SOCKET_NAME);
}

export const PLUGIN_SOCKET_NAME = "typevisor-kvm.sock";
