import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import type { Logger } from "../../runtime/logger.ts";
import { AgentMetrics } from "../agent/agent-metrics.ts";
import { type AgentParts, AgentServer } from "../agent/agent-server.ts";
import { AskingSocket } from "./asking-socket.ts";

export const testPod = { podUid: "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11", containerId: "a".repeat(64) };

/** An agent in a directory of its own. This process is its only peer, and passes for a container of `testPod`. */
export class RunningAgent implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "agent-"));
  readonly agentDir = join(this.directory, "agent");
  readonly kubeletDir = join(this.directory, "kubelet");
  readonly socketPath = join(this.agentDir, "agent.sock");
  readonly kvmPath = join(this.directory, "kvm");
  readonly vhostNetPath = join(this.directory, "vhost-net");
  readonly lines: { readonly [field: string]: unknown; readonly message: string }[] = [];
  readonly registry = new Registry();
  readonly #changes: Partial<AgentParts>;
  #server: AgentServer | undefined;

  constructor(changes: Partial<AgentParts> = {}) {
    this.#changes = changes;
  }

  async start(): Promise<this> {
    this.registry.clear();
    const log = (fields: object, message: string) => void this.lines.push({ ...fields, message });
    const logger: Logger = { debug: log, info: log, warn: log, error: log };
    this.#server = new AgentServer({
      directory: this.agentDir,
      paths: {
        kubeletDir: this.kubeletDir,
        kvmPath: this.kvmPath,
        userfaultfdPath: join(this.directory, "uffd"),
        vhostNetPath: this.vhostNetPath,
      },
      pods: { podOf: () => testPod },
      log: logger,
      metrics: new AgentMetrics(this.registry),
      version: "test",
      label: () => {},
      ...this.#changes,
    });
    await this.#server.listen();
    return this;
  }

  async stop(): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
    this.#server = undefined;
  }

  connect(): AskingSocket {
    return new AskingSocket(this.socketPath);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true });
  }
}
