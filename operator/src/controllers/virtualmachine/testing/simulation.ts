import { Client } from "../../../runtime/client.ts";
import { type Connection, plainConnection } from "../../../runtime/connection.ts";
import type { EventDraft } from "../../../runtime/event-recorder.ts";
import { FakeApiServer, type FakeRequest } from "../../../runtime/testing/fake-api-server.ts";
import { FakeClock } from "../../../runtime/testing/fake-clock.ts";
import { RecordingLogger } from "../../../runtime/testing/recording-logger.ts";
import { VirtualMachineController } from "../controller.ts";
import type { StoredVirtualMachine } from "../observe.ts";
import { FakeNode } from "./fake-node.ts";
import { settings } from "./fixtures.ts";

/** Simulated time that passes at each tick. */
const TICK_MS = 100;

/** An operator that can be killed at any moment, and what it leaves behind is what another one finds. */
interface Operator {
  readonly stop: AbortController;
  readonly ended: Promise<unknown>;
}

/** A cluster in memory with one operator, which is replaced by a new one as soon as it dies. */
export class Simulation implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly node: FakeNode;
  readonly clock = new FakeClock();
  readonly logger = new RecordingLogger();
  readonly events: EventDraft[] = [];
  /** Writes of all operators so far, events apart. */
  writes = 0;
  kills = 0;
  /** Kills the operator at its n-th write, before or after the API server has carried it out. */
  killAt: { readonly write: number; readonly when: "before" | "after" } | undefined;
  #operator: Operator;
  #ended = false;

  private constructor(server: FakeApiServer) {
    this.server = server;
    server.now = () => this.clock.now();
    this.node = new FakeNode(server, () => this.clock.now());
    server.intercept = (request) => this.#intercept(request);
    this.#operator = this.#launch();
  }

  static async start(): Promise<Simulation> {
    return new Simulation(await FakeApiServer.start());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#operator.stop.abort();
    await this.#operator.ended;
    await this.server[Symbol.asyncDispose]();
  }

  /** Kills the operator now; another one takes its place. */
  kill(): void {
    this.kills += 1;
    this.#operator.stop.abort();
    this.#operator = this.#launch();
  }

  machine(name: string): StoredVirtualMachine | undefined {
    return this.server.read<StoredVirtualMachine>("virtualmachines", "shop", name);
  }

  edit(name: string, change: (vm: StoredVirtualMachine) => void): void {
    this.server.edit<StoredVirtualMachine>("virtualmachines", "shop", name, change);
  }

  /** Lets time pass until `done`; throws when that takes too long. */
  async until(what: string, done: () => boolean): Promise<void> {
    const deadline = performance.now() + 60_000;
    while (!done()) {
      if (performance.now() > deadline) {
        const state = JSON.stringify([this.server.all("virtualmachines"), this.server.all("pods")], null, 1);
        throw new Error(`never came to pass: ${what}\n${state}\n${JSON.stringify(this.logger.lines.slice(-20))}`);
      }
      this.node.tick();
      this.clock.advance(TICK_MS);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  #intercept(request: FakeRequest) {
    if (!request.isWrite) {
      return undefined;
    }
    this.writes += 1;
    if (this.killAt === undefined || this.writes !== this.killAt.write || this.#ended) {
      return undefined;
    }
    const { when } = this.killAt;
    // The answer never arrives; nor does the dead operator send anything more.
    this.kill();
    return { kind: when === "before" ? ("drop-before" as const) : ("drop-after" as const) };
  }

  #launch(): Operator {
    const stop = new AbortController();
    const connection = mortal(plainConnection(this.server.url), stop.signal);
    const controller = new VirtualMachineController({
      client: new Client(connection),
      clock: this.clock,
      logger: this.logger,
      settings,
      namespaces: [],
      authority: {
        trustId: "trust",
        issueForMachine: async () => ({
          certificate: "c",
          key: "k",
          trust: "t",
          trustId: "trust",
          renewAtMs: this.clock.now() + 1e9,
        }),
      },
      launchers: this.node,
      events: { record: (_, draft) => this.events.push(draft) },
    });
    const ended = Promise.all([controller.watch(stop.signal), controller.work(stop.signal)]);
    return { stop, ended };
  }
}

/** A connection that sends nothing once its process is dead. */
function mortal(connection: Connection, dead: AbortSignal): Connection {
  dead.addEventListener("abort", () => connection[Symbol.dispose]());
  return {
    ...connection,
    prepare: async () => {
      if (dead.aborted) {
        throw new Error("the process is dead");
      }
      return await connection.prepare();
    },
  };
}
