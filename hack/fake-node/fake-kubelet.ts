import { once } from "node:events";
import { Agent, createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import { KVM_RESOURCE } from "../../launcher/api/agent.ts";
import { LAUNCHER_API_VERSION, type LauncherStatus } from "../../launcher/api/control.ts";
import { Client } from "../../operator/src/runtime/client.ts";
import { systemClock } from "../../operator/src/runtime/clock.ts";
import type { Logger } from "../../operator/src/runtime/logger.ts";
import { reflect } from "../../operator/src/runtime/reflect.ts";
import { Store } from "../../operator/src/runtime/store.ts";
import { type Pod, type Resource, resources, type Secret } from "../../operator/src/runtime/wire.ts";
import type { ApiServer } from "../lib/apiserver.ts";
import { waitFor } from "../lib/step.ts";

const NODE = "fake-node";
const WRITE_DEADLINE_MS = 60_000;

/**
 * Stands for scheduler, node, kubelet and launchers of any number of machines: each launcher pod is placed, runs at an
 * address of its own on the loopback network, and answers the operator with the certificate from its Secret. An API
 * server that is away for a while is waited for.
 */
export class FakeKubelet implements AsyncDisposable {
  readonly #server: ApiServer;
  readonly #agent: Agent;
  readonly #namespace: string;
  /** By the UID of the machine. */
  readonly #certificates = new Map<string, SecureContext>();
  readonly #launchers;
  readonly #stop = new AbortController();
  readonly #work: Promise<void>[] = [];
  readonly #startedAtMs = new Map<string, number>();

  constructor(server: ApiServer, namespace: string) {
    this.#server = server;
    this.#agent = new Agent({ keepAlive: true, ca: server.certificateAuthority });
    this.#namespace = namespace;
    const SNICallback = (name: string, done: (error: Error | null, context?: SecureContext) => void) =>
      done(null, this.#certificates.get(name.split(".")[0] ?? ""));
    this.#launchers = createServer({ SNICallback, minVersion: "TLSv1.3" }, (_request, response) => {
      response.end(JSON.stringify(runningLauncher));
    });
  }

  /** Port of all launchers, once started. */
  get port(): number {
    return (this.#launchers.address() as AddressInfo).port;
  }

  /** The pods that were ever seen: when, in performance.now(), by UID. */
  get podsSeenAtMs(): ReadonlyMap<string, number> {
    return this.#startedAtMs;
  }

  async start(): Promise<void> {
    this.#launchers.listen(0, "0.0.0.0");
    await once(this.#launchers, "listening");
    await this.#write("POST", "/api/v1/nodes", { metadata: { name: NODE } });
    await this.#write("PATCH", `/api/v1/nodes/${NODE}/status`, { status: nodeStatus });
    const secrets = new Store<Secret>();
    secrets.onChange(({ current }) => current && this.#learn(current));
    const pods = new Store<Pod>();
    pods.onChange(({ previous, current }) => previous === undefined && current && this.#run(current));
    const client = new Client({
      server: this.#server.url,
      prepare: async () => ({ headers: { Authorization: `Bearer ${this.#server.token}` }, agent: this.#agent }),
      [Symbol.dispose]: () => undefined,
    });
    const context = { client, clock: systemClock, logger: quiet, namespaces: [this.#namespace] };
    const reflectAll = <T extends Pod | Secret>(resource: Resource, store: Store<T>) =>
      reflect<T>(context, { resource, store, trim: (object) => object }, this.#stop.signal);
    this.#work.push(...reflectAll(resources.secrets, secrets), ...reflectAll(resources.pods, pods));
    await Promise.all([secrets.synced, pods.synced]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#launchers.closeAllConnections();
    this.#launchers.close();
    this.#agent.destroy();
    await Promise.all(this.#work);
  }

  #learn({ metadata, data = {} }: Secret): void {
    const pem = (key: string) => Buffer.from(data[key] ?? "", "base64").toString();
    const uid = metadata?.ownerReferences?.[0]?.uid;
    if (uid === undefined || data["tls.key"] === undefined) return;
    this.#certificates.set(uid, createSecureContext({ cert: pem("tls.crt"), key: pem("tls.key") }));
  }

  #run({ metadata }: Pod): void {
    const { name = "", uid = "" } = metadata ?? {};
    const path = `/api/v1/namespaces/${this.#namespace}/pods/${name}`;
    this.#startedAtMs.set(uid, performance.now());
    const count = this.#startedAtMs.size;
    const ip = `127.1.${count >> 8}.${count & 255}`;
    const binding = { metadata: { name }, target: { kind: "Node", name: NODE } };
    const placed = this.#write("POST", `${path}/binding`, binding);
    this.#work.push(placed.then(() => this.#write("PATCH", `${path}/status`, { status: podStatus(ip) })));
  }

  /** Until the API server has it; the answer to an earlier attempt may have been lost (409). */
  async #write(method: string, path: string, body: object): Promise<void> {
    const contentType = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    await waitFor(
      async () => {
        if (this.#stop.signal.aborted) return true;
        const answer = await this.#server.request(method, path, { body, contentType }).catch(() => undefined);
        if (answer === undefined || answer.status >= 500) return false;
        if (answer.status > 299 && answer.status !== 409) {
          throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
        }
        return true;
      },
      { what: `the API server to take ${method} ${path}`, timeoutMs: WRITE_DEADLINE_MS },
    );
  }
}

const ignore = () => undefined;
const quiet: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };
const since = new Date().toISOString();
const isTrue = (type: string) => ({ type, status: "True", lastTransitionTime: since, lastHeartbeatTime: since });
const nodeStatus = {
  capacity: { cpu: "64", memory: "512Gi", pods: "2000", [KVM_RESOURCE]: "2000" },
  allocatable: { cpu: "64", memory: "512Gi", pods: "2000", [KVM_RESOURCE]: "2000" },
  conditions: [isTrue("Ready")],
};

/** As a kubelet writes it. */
function podStatus(ip: string): NonNullable<Pod["status"]> {
  const types = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
  const container = {
    name: "launcher",
    image: "registry.example/typevisor/launcher:dev",
    imageID:
      "registry.example/typevisor/launcher@sha256:1f0a5b5f3f2ae0c1c3d0c9d9f1b9a9f9d5f0c2b7e3f6d8a1b4c7e0f3a6b9c2d5",
    containerID: "containerd://8d1b7c6a5f4e3d2c1b0a9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c3b2a1f0e9d8c",
    ready: true,
    started: true,
    restartCount: 0,
    state: { running: { startedAt: since } },
  };
  return {
    phase: "Running",
    conditions: types.map(isTrue),
    hostIP: "127.0.0.1",
    podIP: ip,
    podIPs: [{ ip }],
    startTime: since,
    qosClass: "Burstable",
    containerStatuses: [container],
  };
}

const runningLauncher: LauncherStatus = {
  apiVersion: LAUNCHER_API_VERSION,
  launcherVersion: "0.0.0",
  state: "Running",
  reason: "Running",
  message: "The guest runs",
  startedAt: since,
  reboots: 0,
  guestPanicked: false,
  cpus: 1,
  memoryBytes: 16 * 2 ** 20,
  milestones: {},
  exits: {},
};
