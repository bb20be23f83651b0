import type { ImporterTemplate } from "../../../../../crds/src/pod-template.ts";
import type { VirtualMachineImageStatus } from "../../../../../crds/src/virtualmachineimage.ts";
import type { ImportTrouble } from "../../../../../launcher/api/import.ts";
import { Client } from "../../../runtime/client.ts";
import type { Connection } from "../../../runtime/connection.ts";
import type { EventDraft } from "../../../runtime/event-recorder.ts";
import { FakeApiServer } from "../../../runtime/testing/fake-api-server.ts";
import { FakeClock } from "../../../runtime/testing/fake-clock.ts";
import { MortalOperator } from "../../../runtime/testing/mortal-operator.ts";
import { RecordingLogger } from "../../../runtime/testing/recording-logger.ts";
import type { PersistentVolumeClaim } from "../../../runtime/wire.ts";
import { VirtualMachineImageController } from "../controller.ts";
import type { ImportSettings } from "../settings.ts";
import { FakeStorage } from "./fake-storage.ts";

const TICK_MS = 100;
const FROM_SERVER = { http: { url: "https://cloud.example/debian.qcow2" } };

export const settings: ImportSettings = {
  image: "registry.example/launcher:1",
  imagePullPolicy: "IfNotPresent",
  imagePullSecrets: [],
  logLevel: "info",
  listenAddress: "0.0.0.0",
  telemetryPort: 10080,
  cpuRequest: "100m",
  memoryRequest: "64Mi",
  memoryLimit: "256Mi",
  backOffMinMs: 10_000,
  backOffMaxMs: 300_000,
};

/** A cluster in memory with one operator, which is replaced by a new one as soon as it dies. */
export class ImportSimulation implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly storage: FakeStorage;
  readonly clock = new FakeClock();
  readonly events: EventDraft[] = [];
  /** Machines that write to the claim that is copied. */
  writers: readonly string[] = [];
  trouble: ImportTrouble | undefined;
  readonly operator: MortalOperator;
  readonly #logger = new RecordingLogger();

  private constructor(server: FakeApiServer) {
    this.server = server;
    server.now = () => this.clock.now();
    this.storage = new FakeStorage(server, () => this.clock.now());
    this.operator = new MortalOperator(server, (connection, signal) => this.#launch(connection, signal));
  }

  static async start(): Promise<ImportSimulation> {
    return new ImportSimulation(await FakeApiServer.start());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.operator[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }

  createImage(template?: ImporterTemplate, source: object = FROM_SERVER): void {
    this.server.write("virtualmachineimages", {
      metadata: { name: "debian", namespace: "shop" },
      spec: { source, ...(template && { template }) },
    } as object);
  }

  /** A claim whose first consumer is on its way. */
  createClaim(name = "root", more: Partial<PersistentVolumeClaim["spec"]> = {}): void {
    const annotations = { "volume.kubernetes.io/selected-node": "node-1" };
    this.server.write("persistentvolumeclaims", {
      metadata: { name, namespace: "shop", annotations },
      spec: {
        accessModes: ["ReadWriteOnce"],
        storageClassName: "fast",
        resources: { requests: { storage: "1Gi" } },
        dataSourceRef: { apiGroup: "typevisor.io", kind: "VirtualMachineImage", name: "debian" },
        ...more,
      },
    } as object);
  }

  /** A claim that has a volume, and begins with nothing. */
  createOrigin(name: string): void {
    this.server.write("persistentvolumeclaims", {
      metadata: { name, namespace: "shop" },
      spec: { accessModes: ["ReadWriteMany"], storageClassName: "fast", volumeMode: "Block", volumeName: "volume-0" },
      status: { phase: "Bound", capacity: { storage: "1Gi" } },
    } as object);
  }

  claim(name = "root"): PersistentVolumeClaim | undefined {
    return this.server.read<PersistentVolumeClaim>("persistentvolumeclaims", "shop", name);
  }

  status(): VirtualMachineImageStatus | undefined {
    const image = this.server.read("virtualmachineimages", "shop", "debian");
    return image?.status as VirtualMachineImageStatus | undefined;
  }

  /** Lets time pass until `done`; throws when that takes too long. */
  async until(what: string, done: () => boolean): Promise<void> {
    const deadline = performance.now() + 30_000;
    while (!done()) {
      if (performance.now() > deadline) {
        const state = ["virtualmachineimages", "persistentvolumeclaims", "pods"].map((plural) =>
          this.server.all(plural),
        );
        throw new Error(
          `never came to pass: ${what}\n${JSON.stringify(state)}\n${JSON.stringify(this.#logger.lines.slice(-9))}`,
        );
      }
      this.storage.tick();
      this.clock.advance(TICK_MS);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  #launch(connection: Connection, signal: AbortSignal): Promise<unknown> {
    const controller = new VirtualMachineImageController({
      client: new Client(connection),
      clock: this.clock,
      logger: this.#logger,
      settings,
      namespaces: [],
      askImporter: async () => ({
        version: 1,
        stage: "Transferring",
        doneBytes: 420 * 2 ** 20,
        totalBytes: 1000 * 2 ** 20,
        bytesPerSecond: 120 * 2 ** 20,
        format: "qcow2",
        diskBytes: 2 ** 31,
        resumed: 0,
        ...(this.trouble && { trouble: this.trouble }),
      }),
      writersOf: (claimKey) => (claimKey === "shop/origin" ? this.writers : []),
      events: { record: (_, draft) => this.events.push(draft) },
    });
    return Promise.all([controller.watch(signal), controller.work(signal)]);
  }
}
