import type { Authority } from "../../certificates/authority.ts";
import type { Client } from "../../runtime/client.ts";
import type { Clock } from "../../runtime/clock.ts";
import { ApiError } from "../../runtime/errors.ts";
import type { EventDraft, Regarding } from "../../runtime/event-recorder.ts";
import type { Logger } from "../../runtime/logger.ts";
import type { PassFailed } from "../../runtime/pass-metrics.ts";
import { runPasses } from "../../runtime/passes.ts";
import { reflect, syncedOrAborted } from "../../runtime/reflect.ts";
import {
  type Event,
  type KubernetesObject,
  type Node,
  type PersistentVolumeClaim,
  type Pod,
  resources,
} from "../../runtime/wire.ts";
import { WorkQueue } from "../../runtime/work-queue.ts";
import type { WorkQueueMetrics } from "../../runtime/work-queue-metrics.ts";
import { virtualMachineMigrations } from "../virtualmachinemigration/names.ts";
import { machineKeyOf, type StoredMigration, trimMigration } from "../virtualmachinemigration/stored.ts";
import { act, type Hands, RefusedError } from "./act.ts";
import { claimKeysOfMachine, claimKeysOfPod, type StoredClaim, trimClaim } from "./claims.ts";
import { decide } from "./decide.ts";
import { type LauncherCalls, LauncherMonitor } from "./launcher-monitor.ts";
import { isIncoming } from "./launcher-pods.ts";
import type { VirtualMachineMetrics } from "./metrics.ts";
import { withMovedDisks } from "./moved-disks.ts";
import { MANAGED_BY, MANAGED_BY_LABEL, virtualMachines } from "./names.ts";
import {
  createWorld,
  isFinished,
  isLauncher,
  keysOfClaims,
  keysOfNode,
  keysOfPod,
  observe,
  runningRivals,
  type StoredNode,
  type StoredVirtualMachine,
  trimNode,
  trimPod,
  trimVirtualMachine,
  type World,
} from "./observe.ts";
import type { Action } from "./plan.ts";
import { mayStillStart, PodWarnings, type StoredWarning, trimWarning, WARNINGS_SELECTOR } from "./pod-warnings.ts";
import { Refusals } from "./refusals.ts";
import type { Settings } from "./settings.ts";
import { StatusHold } from "./status-hold.ts";

export interface ControllerOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings: Settings;
  /** Namespaces to serve; all when empty. */
  readonly namespaces: readonly string[];
  readonly authority: Pick<Authority, "issueForMachine" | "trustId">;
  readonly launchers: LauncherCalls;
  readonly events: { record(regarding: Regarding, draft: EventDraft): void };
  readonly queueMetrics?: WorkQueueMetrics;
  readonly onPassFailed?: PassFailed;
  readonly metrics?: VirtualMachineMetrics;
}

const WORKERS = 16;
/** When a machine looks again that found its claim taken at the last moment. */
const CLAIM_TAKEN_DELAY_MS = 100;
/** Failures in a row after which the status says so. */
const TRIES_BEFORE_A_WORD = 3;

/** Reconciles VirtualMachines into launcher pods: observe, decide, act, one VirtualMachine at a time in each worker. */
export class VirtualMachineController {
  readonly world: World = createWorld();
  readonly #options: ControllerOptions;
  readonly #queue: WorkQueue;
  readonly #monitor: LauncherMonitor;
  readonly #warnings: PodWarnings;
  readonly #refusals = new Refusals();
  readonly #statusHold = new StatusHold();
  /** UID of the VirtualMachine whose pod is being made, by each of its claims. */
  readonly #starting = new Map<string, string>();
  /** Pods that are gone, by the key of their VirtualMachine, until another pod is there. */
  readonly #departed = new Map<string, Pod>();

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { clock, queueMetrics } = options;
    const metrics = queueMetrics === undefined ? {} : { metrics: queueMetrics };
    this.#queue = new WorkQueue({ name: "virtualmachine", clock, ...metrics });
    this.#monitor = new LauncherMonitor(options.launchers, clock, (key) => this.#queue.add(key));
    this.#warnings = new PodWarnings(this.world.pods, (pod) => this.#queueOwner(pod));
    this.#connect();
  }

  /** True once all that decisions look at has been listed. */
  get hasSynced(): boolean {
    return Object.values(this.world).every((store) => store.hasSynced);
  }

  /** Follows the cluster until `signal` is aborted; leaders and others alike. */
  async watch(signal: AbortSignal): Promise<void> {
    const { world } = this;
    const context = this.#options;
    const machine = { resource: virtualMachines, store: world.virtualMachines, trim: trimVirtualMachine };
    const labelSelector = `${MANAGED_BY_LABEL}=${MANAGED_BY}`;
    const pod = { resource: resources.pods, store: world.pods, trim: trimPod, labelSelector };
    const node = {
      resource: resources.nodes,
      store: world.nodes,
      trim: (each: KubernetesObject) => trimNode(each as Node),
    };
    const claim = {
      resource: resources.persistentVolumeClaims,
      store: world.claims,
      trim: (each: KubernetesObject) => trimClaim(each as PersistentVolumeClaim),
    };
    const migration = { resource: virtualMachineMigrations, store: world.migrations, trim: trimMigration };
    await Promise.all([
      ...reflect<StoredMigration>(context, migration, signal),
      ...reflect<StoredVirtualMachine>(context, machine, signal),
      ...reflect<Pod>(context, pod, signal),
      ...reflect<StoredNode>(context, node, signal),
      ...reflect<StoredClaim>(context, claim, signal),
    ]);
  }

  /** Works until `signal` is aborted, and then until what was begun is done; leaders only. */
  async work(signal: AbortSignal): Promise<void> {
    await syncedOrAborted(Object.values(this.world), signal);
    if (signal.aborted) {
      return;
    }
    this.requeueAll();
    const reconciling = runPasses(
      {
        queue: this.#queue,
        workers: WORKERS,
        reconcile: (key) => this.reconcile(key),
        over: "a VirtualMachine",
        logger: this.#options.logger,
        onFailed: this.#options.onPassFailed,
      },
      signal,
    );
    await Promise.all([reconciling, ...this.#watchWarnings(signal)]);
    this.#monitor[Symbol.dispose]();
  }

  /** Looks at every VirtualMachine again. */
  requeueAll(): void {
    for (const vm of this.world.virtualMachines.values()) {
      this.#queue.add(`${vm.metadata.namespace}/${vm.metadata.name}`);
    }
  }

  /** One pass over one VirtualMachine. */
  async reconcile(key: string): Promise<void> {
    const vm = this.world.virtualMachines.get(key);
    if (vm === undefined) {
      return;
    }
    const { clock, settings, authority } = this.#options;
    const observation = observe(this.world, vm, {
      launcher: (podUID) => this.#monitor.facts(podUID),
      refusals: this.#refusals.of(vm.metadata.uid ?? ""),
      warnings: (podUID) => this.#warnings.about(podUID),
      departed: this.#departed.get(key),
      trustId: authority.trustId,
    });
    const decision = decide(observation, settings, clock.now());
    const machine = withMovedDisks(vm, observation.movedDisks);
    for (const action of decision.actions) {
      const delayMs = this.#statusDelayMs(action, vm);
      if (delayMs === undefined) {
        await this.#carryOut(action, machine, key);
      } else {
        this.#queue.addAfter(key, delayMs);
      }
    }
    if (decision.wakeAtMs !== undefined) {
      this.#queue.addAfter(key, Math.max(0, decision.wakeAtMs - clock.now()));
    }
  }

  #statusDelayMs(action: Action, { metadata, status }: StoredVirtualMachine): number | undefined {
    const isQuiet = action.kind === "write-status" && action.events.length === 0;
    return isQuiet
      ? this.#statusHold.delayMs(metadata.uid ?? "", status ?? {}, action.status, this.#options.clock.now())
      : undefined;
  }

  async #carryOut(action: Action, vm: StoredVirtualMachine, key: string): Promise<void> {
    const uid = vm.metadata.uid ?? "";
    const takesClaims = action.kind === "start" || action.kind === "create-attachment";
    if (takesClaims && !this.#reserveClaims(vm)) {
      this.#queue.addAfter(key, CLAIM_TAKEN_DELAY_MS);
      return;
    }
    try {
      await act(action, vm, this.#hands());
      this.#refusals.done(uid, action);
      if (action.kind === "write-status") {
        this.#options.metrics?.statusWritten(vm, action.status);
      }
    } catch (error) {
      const refused = this.#lasting(error, action.kind, vm, key) ?? error;
      if (!this.#refusals.note(uid, refused, this.#options.clock.now())) {
        throw error;
      }
      // The next pass writes it into the status.
      this.#queue.add(key);
    } finally {
      if (takesClaims) {
        this.#releaseClaims(vm);
      }
    }
  }

  /** Two passes can want one claim at the same time: of two pods on their way, the second would not see the first. */
  #reserveClaims(vm: StoredVirtualMachine): boolean {
    const keys = claimKeysOfMachine(vm);
    const uid = vm.metadata.uid ?? "";
    const isTaken = keys.some((key) => (this.#starting.get(key) ?? uid) !== uid);
    if (isTaken || runningRivals(this.world, vm).length > 0) {
      return false;
    }
    for (const key of keys) {
      this.#starting.set(key, uid);
    }
    return true;
  }

  #releaseClaims(vm: StoredVirtualMachine): void {
    for (const key of claimKeysOfMachine(vm)) {
      if (this.#starting.get(key) === vm.metadata.uid) {
        this.#starting.delete(key);
      }
    }
  }

  /** An error of the API server that keeps a machine from starting and does not pass by itself at once. */
  #lasting(error: unknown, kind: string, vm: StoredVirtualMachine, key: string): RefusedError | undefined {
    const passing = !(error instanceof ApiError) || error.isConflict || this.#queue.failures(key) < TRIES_BEFORE_A_WORD;
    if (kind !== "start" || passing) {
      return undefined;
    }
    return new RefusedError({ reason: "ApiError", message: error.message, generation: vm.metadata.generation ?? 0 });
  }

  #hands(): Hands {
    const { client, authority, events, logger, settings, clock, metrics } = this.#options;
    return {
      client,
      world: this.world,
      authority,
      monitor: this.#monitor,
      events,
      logger,
      settings,
      nowMs: () => clock.now(),
      onPodCreated: (vm) => metrics?.podCreated(vm),
    };
  }

  #connect(): void {
    const { virtualMachines: vms, pods, nodes, claims, migrations } = this.world;
    migrations.onChange(({ previous, current }) => {
      const keys = [previous, current].flatMap((each) => (each === undefined ? [] : machineKeyOf(each)));
      this.#addAll([...new Set(keys)]);
    });
    vms.onChange(({ key, previous, current }) => {
      if (current === undefined) {
        this.#refusals.forget(previous?.metadata.uid ?? "");
        this.#statusHold.forget(previous?.metadata.uid ?? "");
        this.#departed.delete(key);
      }
      this.#queue.add(key);
      if (
        previous?.metadata.generation !== current?.metadata.generation ||
        previous?.status?.phase !== current?.status?.phase
      ) {
        this.#addAll(
          keysOfClaims(
            this.world,
            [previous, current].flatMap((vm) => (vm === undefined ? [] : claimKeysOfMachine(vm))),
          ),
        );
      }
    });
    pods.onChange(({ previous, current }) => {
      if (previous?.metadata?.uid !== undefined && previous.metadata.uid !== current?.metadata?.uid) {
        this.#monitor.forget(previous.metadata.uid);
        this.#warnings.forget(previous.metadata.uid);
      }
      if (current?.metadata?.uid !== undefined && !mayStillStart(current)) {
        this.#warnings.forget(current.metadata.uid);
      }
      for (const key of keysOfPod(current ?? previous ?? {})) {
        if (!isLauncher(current ?? previous ?? {})) {
          this.#queue.add(key);
          continue;
        }
        const isMine = !isIncoming(current ?? previous ?? {});
        if (current !== undefined && isMine) {
          this.#departed.delete(key);
        } else if (current === undefined && previous !== undefined && isMine && vms.get(key) !== undefined) {
          this.#departed.set(key, previous);
        }
        this.#queue.add(key);
      }
      // Its claims may be free now, or taken.
      if (previous === undefined || current === undefined || isFinished(previous) !== isFinished(current)) {
        this.#addAll(keysOfClaims(this.world, claimKeysOfPod(current ?? previous ?? {})));
      }
    });
    claims.onChange(({ key, previous, current }) => {
      if (JSON.stringify(previous?.facts) !== JSON.stringify(current?.facts)) {
        this.#addAll(keysOfClaims(this.world, [key]));
      }
    });
    nodes.onChange(({ key: nodeName, previous, current }) => {
      if (JSON.stringify(previous?.facts) !== JSON.stringify(current?.facts)) {
        this.#addAll(keysOfNode(this.world, nodeName));
      }
    });
  }

  /** Leaders only: the API server keeps no cache of events, so that each watch of them costs it something. */
  #watchWarnings(signal: AbortSignal): Promise<void>[] {
    const warning = {
      resource: resources.events,
      store: this.#warnings,
      trim: (event: KubernetesObject) => trimWarning(event as Event),
      fieldSelector: WARNINGS_SELECTOR,
    };
    return reflect<StoredWarning>(this.#options, warning, signal);
  }

  #queueOwner(pod: Pod): void {
    for (const key of keysOfPod(pod)) {
      this.#queue.add(key);
    }
  }

  #addAll(keys: readonly string[]): void {
    for (const key of keys) {
      this.#queue.add(key);
    }
  }
}
