import { GROUP_VERSION } from "../../../../crds/src/names.ts";
import type { VirtualMachineMigrationStatus } from "../../../../crds/src/virtualmachinemigration.ts";
import type { Client } from "../../runtime/client.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { EventDraft, Regarding } from "../../runtime/event-recorder.ts";
import type { Logger } from "../../runtime/logger.ts";
import type { PassFailed } from "../../runtime/pass-metrics.ts";
import { runPasses } from "../../runtime/passes.ts";
import { syncedOrAborted } from "../../runtime/reflect.ts";
import type { Pod } from "../../runtime/wire.ts";
import { WorkQueue } from "../../runtime/work-queue.ts";
import type { WorkQueueMetrics } from "../../runtime/work-queue-metrics.ts";
import { annotations } from "../virtualmachine/names.ts";
import {
  abandonedMoveOf,
  isFinished,
  isLauncher,
  keysOfPod,
  migrationsOfKey,
  type World,
} from "../virtualmachine/observe.ts";
import type { Settings } from "../virtualmachine/settings.ts";
import { abandonedKey, machineKeyOfAbandoned } from "./abandoned.ts";
import { act, type Hands, TargetRefusedError } from "./act.ts";
import { decide } from "./decide.ts";
import { liveMigrationsOf } from "./live.ts";
import type { MigrationMetrics } from "./metrics.ts";
import { type MigrationCalls, MigrationMonitor } from "./migration-monitor.ts";
import type { Observation, PodRefusal } from "./observation.ts";
import { observe } from "./observe.ts";
import type { Action } from "./plan.ts";
import type { MigrationSettings } from "./settings.ts";
import { isOver, isUnderWay, machineKeyOf, type StoredMigration } from "./stored.ts";
import type { Active } from "./turn.ts";

export interface MigrationControllerOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of the pods that machines move to. */
  readonly machineSettings: Settings;
  readonly settings: MigrationSettings;
  /** The stores of the VirtualMachine controller, which keeps them: both must know the same of a machine's pods. */
  readonly world: World;
  readonly launchers: MigrationCalls & Hands["launchers"];
  readonly events: { record(regarding: Regarding, draft: EventDraft): void };
  readonly queueMetrics?: WorkQueueMetrics;
  readonly onPassFailed?: PassFailed;
  readonly metrics?: MigrationMetrics;
}

const WORKERS = 8;
const LOOK_AGAIN_MS = 1_000;

/** Carries out VirtualMachineMigrations: observe, decide, act, one migration at a time in each worker. */
export class VirtualMachineMigrationController {
  readonly #options: MigrationControllerOptions;
  readonly #queue: WorkQueue;
  readonly #monitor: MigrationMonitor;
  readonly #refusals = new Map<string, PodRefusal>();
  /** By UID of the source's pod. */
  readonly #sourceGoneAtMs = new Map<string, number>();
  readonly #progressWrittenAtMs = new Map<string, number>();
  readonly #admitted = new Map<string, Active>();
  /** UIDs of migrations that the API server does not have any more. */
  readonly #gone = new Set<string>();

  constructor(options: MigrationControllerOptions) {
    this.#options = options;
    const { clock, queueMetrics, launchers } = options;
    const metrics = queueMetrics === undefined ? {} : { metrics: queueMetrics };
    this.#queue = new WorkQueue({ name: "virtualmachinemigration", clock, ...metrics });
    this.#monitor = new MigrationMonitor(launchers, clock, (key) => this.#addMovesOf(key));
    this.#connect();
  }

  /** Works until `signal` is aborted, and then until what was begun is done; leaders only. */
  async work(signal: AbortSignal): Promise<void> {
    const { world } = this.#options;
    await syncedOrAborted(Object.values(world), signal);
    if (signal.aborted) {
      return;
    }
    this.#addEverything();
    using _monitor = this.#monitor;
    await runPasses(
      {
        queue: this.#queue,
        workers: WORKERS,
        reconcile: (key) => this.reconcile(key),
        over: "a VirtualMachineMigration",
        logger: this.#options.logger,
        onFailed: this.#options.onPassFailed,
      },
      signal,
    );
  }

  /** One pass over one migration. */
  async reconcile(key: string): Promise<void> {
    const { world, settings, clock } = this.#options;
    const machineKey = machineKeyOfAbandoned(key);
    const isAbandoned = machineKey !== undefined;
    const migration = isAbandoned ? this.#abandonedMove(machineKey) : world.migrations.get(key);
    if (migration === undefined) {
      return;
    }
    if (isAbandoned && !(await this.#isGone(migration))) {
      // The store is behind: what it hears next is what is there.
      this.#queue.addAfter(key, LOOK_AGAIN_MS);
      return;
    }
    const uid = migration.metadata.uid ?? "";
    const memory = this.#memoryOf(migration);
    const observation = observe(world, migration, { settings, memory, isAbandoned });
    const { actions, wakeAtMs } = decide(observation, settings, clock.now());
    const isAdmitted = actions.some((action) => begins(action, migration));
    if (isAdmitted) {
      this.#admitted.set(uid, { machine: machineKeyOf(migration), node: observation.current?.spec?.nodeName });
    }
    try {
      for (const action of actions) {
        await this.#carryOut(action, observation, key);
      }
    } finally {
      this.#admitted.delete(uid);
    }
    if (wakeAtMs !== undefined) {
      this.#queue.addAfter(key, Math.max(0, wakeAtMs - clock.now()));
    }
  }

  #abandonedMove(machineKey: string): StoredMigration | undefined {
    const { world } = this.#options;
    const vm = world.virtualMachines.get(machineKey);
    return vm === undefined ? undefined : abandonedMoveOf(world, vm);
  }

  /** Nobody has such a UID again, so it is asked once. */
  async #isGone(migration: StoredMigration): Promise<boolean> {
    const { client, metrics, events, logger } = this.#options;
    const { uid = "", name, namespace = "" } = migration.metadata;
    if (this.#gone.has(uid)) return true;
    const vmName = migration.spec.virtualMachineName;
    const live = await liveMigrationsOf(client, namespace, vmName);
    if (live.some((each) => each.metadata.uid === uid && !isOver(each))) return false;
    this.#gone.add(uid);
    logger.info({ namespace, vm: vmName, migration: name }, "A migration was deleted in the middle, and is taken back");
    metrics?.statusWritten(migration, { ...migration.status, phase: "Cancelled" });
    const vm = this.#options.world.virtualMachines.get(machineKeyOf(migration));
    const regarding = { apiVersion: GROUP_VERSION, kind: "VirtualMachine", namespace, name: vmName };
    events.record(
      { ...regarding, uid: vm?.metadata.uid ?? "" },
      {
        type: "Normal",
        reason: "MigrationCancelled",
        action: "Migrate",
        note: `VirtualMachineMigration ${name} was deleted: the machine stays where it is, unless it has moved already`,
      },
    );
    return true;
  }

  #memoryOf({ metadata, status }: StoredMigration) {
    const uid = metadata.uid ?? "";
    const { clock, world } = this.#options;
    const sourceUID = status?.source?.podUID;
    const isThere = [...world.pods.byIndex("node", status?.source?.node ?? "")].some(
      (pod) => pod.metadata?.uid === sourceUID && !isFinished(pod),
    );
    if (sourceUID !== undefined && !isThere && !this.#sourceGoneAtMs.has(sourceUID)) {
      this.#sourceGoneAtMs.set(sourceUID, clock.now());
    }
    return {
      heard: (podUID: string) => this.#monitor.heard(podUID),
      refusal: this.#refusals.get(uid),
      sourceGoneAtMs: (podUID: string) => this.#sourceGoneAtMs.get(podUID),
      progressWrittenAtMs: this.#progressWrittenAtMs.get(uid) ?? 0,
      admitted: this.#admitted,
    };
  }

  async #carryOut(action: Action, observation: Observation, key: string): Promise<void> {
    const { clock, metrics } = this.#options;
    const uid = observation.migration.metadata.uid ?? "";
    try {
      await act(action, observation, this.#hands());
      if (action.kind === "create-target") this.#refusals.delete(uid);
      if (action.kind === "write-status") {
        this.#progressWrittenAtMs.set(uid, clock.now());
        metrics?.statusWritten(observation.migration, action.status);
      }
    } catch (error) {
      if (!(error instanceof TargetRefusedError)) throw error;
      const count = (this.#refusals.get(uid)?.count ?? 0) + 1;
      this.#refusals.set(uid, { message: error.message, atMs: clock.now(), count });
      // The next pass writes it into the status.
      this.#queue.add(key);
    }
  }

  #hands(): Hands {
    const { client, world, launchers, events, logger, machineSettings, clock } = this.#options;
    const nowMs = () => clock.now();
    return { client, world, monitor: this.#monitor, launchers, events, logger, settings: machineSettings, nowMs };
  }

  #connect(): void {
    const { world } = this.#options;
    const { migrations, virtualMachines, pods, nodes } = world;
    migrations.onChange(({ key, previous, current }) => {
      this.#queue.add(key);
      const hadPlace = previous !== undefined && hasPlace(previous);
      if (hadPlace && (current === undefined || !hasPlace(current))) this.#addWaiting();
      if (current === undefined && previous !== undefined) {
        this.#forget(previous);
        this.#addMovesOf(machineKeyOf(previous));
      }
    });
    virtualMachines.onChange(({ key }) => this.#addMovesOf(key));
    pods.onChange(({ previous, current }) => {
      const pod = current ?? previous ?? {};
      if (isLauncher(pod)) for (const key of keysOfPod(pod)) this.#addMovesOf(key);
      if (current === undefined) this.#forgetPod(pod);
      if (current === undefined || isFinished(current)) this.#monitor.forget(previous?.metadata?.uid ?? "");
    });
    nodes.onChange(({ previous, current }) => {
      if (previous?.facts.outOfService !== current?.facts.outOfService) this.#addEverything();
    });
  }

  #forget({ metadata, status }: StoredMigration): void {
    const uid = metadata.uid ?? "";
    this.#refusals.delete(uid);
    this.#progressWrittenAtMs.delete(uid);
    this.#sourceGoneAtMs.delete(status?.source?.podUID ?? "");
  }

  /** One that its migration has outlived needs none of this any more. */
  #forgetPod({ metadata }: Pod): void {
    const marks = metadata?.annotations ?? {};
    this.#gone.delete(marks[annotations.migration] ?? "");
    this.#sourceGoneAtMs.delete(marks[annotations.takesOverFrom] ?? "");
  }

  #addEverything(): void {
    const { migrations, virtualMachines } = this.#options.world;
    this.#addAll(migrations.values());
    for (const { metadata } of virtualMachines.values()) this.#addMovesOf(`${metadata.namespace}/${metadata.name}`);
  }

  /** Migrations of a machine, and what one without an object has left. */
  #addMovesOf(machineKey: string): void {
    this.#addAll(migrationsOfKey(this.#options.world, machineKey));
    if (this.#abandonedMove(machineKey) !== undefined) this.#queue.add(abandonedKey(machineKey));
  }

  #addWaiting(): void {
    this.#addAll([...this.#options.world.migrations.values()].filter((each) => !isOver(each) && !isUnderWay(each)));
  }

  #addAll(all: Iterable<StoredMigration>): void {
    for (const { metadata } of all) this.#queue.add(`${metadata.namespace}/${metadata.name}`);
  }
}

/** Its turn has come with this. */
function begins(action: Action, { status }: StoredMigration): boolean {
  if (action.kind !== "write-status" || status?.startedAt !== undefined) return false;
  const next: VirtualMachineMigrationStatus = action.status;
  return next.startedAt !== undefined;
}

function hasPlace(migration: StoredMigration): boolean {
  return isUnderWay(migration) && migration.status?.phase !== "Finishing";
}
