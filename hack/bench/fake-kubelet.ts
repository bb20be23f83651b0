import { once } from "node:events";
import { Agent, createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import { KVM_RESOURCE } from "../../launcher/api/agent.ts";
import { LAUNCHER_API_VERSION, type LauncherStatus } from "../../launcher/api/control.ts";
import { Client } from "../../operator/src/runtime/client.ts";
import { type Pod, resources, type Secret } from "../../operator/src/runtime/wire.ts";
import type { ApiServer } from "../lib/apiserver.ts";
import { follow } from "./follow.ts";

const NODE = "fake-node";

/**
 * Stands for scheduler, node, kubelet and launchers of any number of machines: each launcher pod is placed, runs at an
 * address of its own on the loopback network, and answers the operator with the certificate from its Secret.
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
  #addresses = 0;

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

  async start(): Promise<void> {
    this.#launchers.listen(0, "0.0.0.0");
    await once(this.#launchers, "listening");
    await this.#write("POST", "/api/v1/nodes", { metadata: { name: NODE } });
    await this.#write("PATCH", `/api/v1/nodes/${NODE}/status`, { status: nodeStatus });
    const client = new Client({
      server: this.#server.url,
      prepare: async () => ({ headers: { Authorization: `Bearer ${this.#server.token}` }, agent: this.#agent }),
      [Symbol.dispose]: () => undefined,
    });
    const within = { namespace: this.#namespace, signal: this.#stop.signal };
    this.#work.push(
      follow<Secret>(client, { resource: resources.secrets, ...within }, (secret) => this.#learn(secret)),
      follow<Pod>(client, { resource: resources.pods, ...within }, (pod, type) => {
        if (type === "ADDED") this.#run(pod);
      }),
    );
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
    const name = metadata?.name ?? "";
    const path = `/api/v1/namespaces/${this.#namespace}/pods/${name}`;
    this.#addresses += 1;
    const ip = `127.1.${this.#addresses >> 8}.${this.#addresses & 255}`;
    const binding = { metadata: { name }, target: { kind: "Node", name: NODE } };
    const placed = this.#write("POST", `${path}/binding`, binding);
    this.#work.push(placed.then(() => this.#write("PATCH", `${path}/status`, { status: podStatus(ip) })));
  }

  async #write(method: string, path: string, body: object): Promise<void> {
    const contentType = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    const answer = await this.#server.request(method, path, { body, contentType });
    if (answer.status > 299) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
}

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
