import { Client } from "../../../runtime/client.ts";
import type { Connection } from "../../../runtime/connection.ts";
import type { EventDraft } from "../../../runtime/event-recorder.ts";
import { FakeApiServer } from "../../../runtime/testing/fake-api-server.ts";
import { FakeClock } from "../../../runtime/testing/fake-clock.ts";
import { MortalOperator } from "../../../runtime/testing/mortal-operator.ts";
import { RecordingLogger } from "../../../runtime/testing/recording-logger.ts";
import { VirtualMachineMigrationController } from "../../virtualmachinemigration/controller.ts";
import { VirtualMachineController } from "../controller.ts";
import type { StoredVirtualMachine } from "../observe.ts";
import { FakeNode } from "./fake-node.ts";
import { settings } from "./fixtures.ts";
import { migrationSettings } from "./migration-fixtures.ts";

/** Simulated time that passes at each tick. */
const TICK_MS = 100;

/** A cluster in memory with one operator, which is replaced by a new one as soon as it dies. */
export class Simulation implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly node: FakeNode;
  readonly clock = new FakeClock();
  readonly logger = new RecordingLogger();
  readonly events: EventDraft[] = [];
  readonly operator: MortalOperator;

  private constructor(server: FakeApiServer) {
    this.server = server;
    server.now = () => this.clock.now();
    this.node = new FakeNode(server, () => this.clock.now());
    this.operator = new MortalOperator(server, (connection, signal) => this.#launch(connection, signal));
  }

  static async start(): Promise<Simulation> {
    return new Simulation(await FakeApiServer.start());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.operator[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
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
        const kinds = ["virtualmachines", "virtualmachinemigrations", "pods"];
        const state = JSON.stringify(
          kinds.map((kind) => this.server.all(kind)),
          null,
          1,
        );
        throw new Error(`never came to pass: ${what}\n${state}\n${JSON.stringify(this.logger.lines.slice(-20))}`);
      }
      this.node.tick();
      this.clock.advance(TICK_MS);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  #launch(connection: Connection, signal: AbortSignal): Promise<unknown> {
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
    const migrations = new VirtualMachineMigrationController({
      client: new Client(connection),
      clock: this.clock,
      logger: this.logger,
      machineSettings: settings,
      settings: migrationSettings,
      world: controller.world,
      launchers: this.node,
      events: { record: (_, draft) => this.events.push(draft) },
    });
    return Promise.all([controller.watch(signal), controller.work(signal), migrations.work(signal)]);
  }
}
