import { type FSWatcher, watch } from "node:fs";
import { join } from "node:path";
import { credentials } from "@grpc/grpc-js";
import { KVM_RESOURCE } from "../../../../launcher/api/agent.ts";
import type { Logger } from "../../runtime/logger.ts";
import {
  type DevicePluginOffer,
  DevicePluginServer,
  fileIdentity,
  PLUGIN_SOCKET_NAME,
  pluginSocketPath,
} from "./device-plugin-server.ts";
import { DEVICE_PLUGIN_VERSION, type DevicePluginProtocol, type RegisterRequest } from "./protocol.ts";

/** Files in the directory change one after the other. */
const SETTLE_MS = 100;
/** inotify may be blind or exhausted; this is the latest that a new kubelet is seen. */
const POLL_MS = 10_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;
const REGISTER_TIMEOUT_MS = 5_000;

export interface DevicePluginParts {
  readonly protocol: DevicePluginProtocol;
  /** Where the kubelet listens: always /var/lib/kubelet/device-plugins, whatever its --root-dir. */
  readonly directory: string;
  readonly offer: DevicePluginOffer;
  readonly log: Logger;
}

/**
 * Keeps the node's devices offered, whatever the kubelet does. Level-triggered: each look compares what is with what
 * should be (this kubelet knows us, and our socket is still there) and sets up anew what is not so.
 */
export class DevicePlugin implements AsyncDisposable {
  readonly #parts: DevicePluginParts;
  #healthy: boolean;
  #server: DevicePluginServer | undefined;
  /** The kubelet.sock that knows us. Invariant: undefined unless #server listens. */
  #registeredWith: string | undefined;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #retryMs = FIRST_RETRY_MS;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #stopped = false;

  constructor(parts: DevicePluginParts, healthy: boolean) {
    this.#parts = parts;
    this.#healthy = healthy;
  }

  get registered(): boolean {
    return this.#registeredWith !== undefined;
  }

  start(): void {
    this.#look();
  }

  setHealthy(healthy: boolean): void {
    this.#healthy = healthy;
    this.#server?.setHealthy(healthy);
  }

  /** The kubelet keeps the devices of running pods, and offers no more until a plugin registers again. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    this.#watcher?.close();
    clearTimeout(this.#timer);
    await this.#looking;
    await this.#server?.[Symbol.asyncDispose]();
  }

  /** Looks now, or once more when it is looking already. */
  #look(): void {
    if (this.#stopped) return;
    this.#lookAgain = true;
    this.#looking ??= this.#lookWhileAsked().finally(() => {
      this.#looking = undefined;
    });
  }

  async #lookWhileAsked(): Promise<void> {
    while (this.#lookAgain && !this.#stopped) {
      this.#lookAgain = false;
      let nextLookMs = POLL_MS;
      try {
        this.#watchDirectory();
        await this.#bringAbout();
        this.#retryMs = FIRST_RETRY_MS;
      } catch (error) {
        nextLookMs = this.#retryMs;
        this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
        this.#parts.log.warn({ err: error, retryMs: nextLookMs, reason: "NotRegistered" }, "kubelet cannot be reached");
      }
      this.#lookIn(nextLookMs);
    }
  }

  #lookIn(delayMs: number): void {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), delayMs);
  }

  #watchDirectory(): void {
    if (this.#watcher !== undefined) return;
    const watcher = watch(this.#parts.directory, (_event, name) => {
      if (name === "kubelet.sock" || name === PLUGIN_SOCKET_NAME) this.#lookIn(SETTLE_MS);
    });
    const lost = () => {
      watcher.close();
      if (this.#watcher === watcher) this.#watcher = undefined;
    };
    watcher.on("error", lost);
    this.#watcher = watcher;
  }

  async #bringAbout(): Promise<void> {
    const kubelet = fileIdentity(join(this.#parts.directory, "kubelet.sock"));
    const current = kubelet !== undefined && kubelet === this.#registeredWith && this.#server?.hasItsSocket;
    if (current) return;
    this.#registeredWith = undefined;
    if (kubelet === undefined) return;
    await this.#serveAnew();
    await this.#register();
    this.#registeredWith = kubelet;
    const { deviceCount } = this.#parts.offer;
    this.#parts.log.info({ resource: KVM_RESOURCE, deviceCount, reason: "Registered" }, "registered with the kubelet");
  }

  async #serveAnew(): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
    const server = new DevicePluginServer(this.#parts.protocol, this.#parts.offer, {
      socketPath: pluginSocketPath(this.#parts.directory),
      healthy: this.#healthy,
      onAbandoned: () => {
        if (this.#server !== server) return;
        this.#registeredWith = undefined;
        this.#lookIn(FIRST_RETRY_MS);
      },
    });
    this.#server = server;
    await server.listen();
  }

  #register(): Promise<void> {
    const { directory, protocol } = this.#parts;
    const client = new protocol.Registration(`unix://${join(directory, "kubelet.sock")}`, credentials.createInsecure());
    const request: RegisterRequest = {
      version: DEVICE_PLUGIN_VERSION,
      endpoint: PLUGIN_SOCKET_NAME,
      resource_name: KVM_RESOURCE,
      options: {},
    };
    return new Promise<void>((resolve, reject) => {
      client["Register"]?.(request, { deadline: Date.now() + REGISTER_TIMEOUT_MS }, (error: Error | null) =>
        error === null ? resolve() : reject(error),
      );
    }).finally(() => client.close());
  }
}
