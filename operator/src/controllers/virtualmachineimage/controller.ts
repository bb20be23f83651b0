import type { Client } from "../../runtime/client.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { EventDraft, Regarding } from "../../runtime/event-recorder.ts";
import type { Logger } from "../../runtime/logger.ts";
import type { PassFailed } from "../../runtime/pass-metrics.ts";
import { runPasses } from "../../runtime/passes.ts";
import { reflect, syncedOrAborted } from "../../runtime/reflect.ts";
import {
  type KubernetesObject,
  type PersistentVolumeClaim,
  type Pod,
  resources,
  type StorageClass,
} from "../../runtime/wire.ts";
import { WorkQueue } from "../../runtime/work-queue.ts";
import type { WorkQueueMetrics } from "../../runtime/work-queue-metrics.ts";
import { act } from "./act.ts";
import { decide } from "./decide.ts";
import { IMPORT_LABEL, virtualMachineImages } from "./names.ts";
import type { StoredImage } from "./observation.ts";
import {
  allKeys,
  createWorld,
  keysOfClaim,
  keysOfPod,
  observe,
  type StoredClaim,
  type StoredClass,
  trimClaim,
  trimClass,
  trimDriver,
  trimPod,
  type World,
  type WritersOf,
} from "./observe.ts";
import { type AskImporter, ProgressMonitor } from "./progress-monitor.ts";
import type { ImportSettings } from "./settings.ts";

export interface ImageControllerOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly settings: ImportSettings;
  /** Namespaces to serve; all when empty. */
  readonly namespaces: readonly string[];
  readonly askImporter: AskImporter;
  readonly writersOf: WritersOf;
  readonly events: { record(regarding: Regarding, draft: EventDraft): void };
  readonly queueMetrics?: WorkQueueMetrics;
  readonly onPassFailed?: PassFailed;
}

const WORKERS = 4;

/** Fills claims that name VirtualMachineImages: observe, decide, act, one image and all its claims at a time. */
export class VirtualMachineImageController {
  readonly world: World = createWorld();
  readonly #options: ImageControllerOptions;
  readonly #queue: WorkQueue;
  readonly #monitor: ProgressMonitor;

  constructor(options: ImageControllerOptions) {
    this.#options = options;
    const { clock, queueMetrics, askImporter } = options;
    const metrics = queueMetrics === undefined ? {} : { metrics: queueMetrics };
    this.#queue = new WorkQueue({ name: "virtualmachineimage", clock, ...metrics });
    this.#monitor = new ProgressMonitor(askImporter, clock, (key) => this.#queue.add(key));
    this.#connect();
  }

  /** True once all that decisions look at has been listed. */
  get hasSynced(): boolean {
    return Object.values(this.world).every((store) => store.hasSynced);
  }

  /** Follows the cluster until `signal` is aborted; leaders and others alike. */
  async watch(signal: AbortSignal): Promise<void> {
    const { images, claims, pods, storageClasses: classes, csiDrivers } = this.world;
    const context = this.#options;
    const image = { resource: virtualMachineImages, store: images, trim: (stored: StoredImage) => stored };
    const claim = {
      resource: resources.persistentVolumeClaims,
      store: claims,
      trim: (each: KubernetesObject) => trimClaim(each as PersistentVolumeClaim),
    };
    const pod = { resource: resources.pods, store: pods, trim: trimPod, labelSelector: IMPORT_LABEL };
    const storageClass = {
      resource: resources.storageClasses,
      store: classes,
      trim: (each: KubernetesObject) => trimClass(each as StorageClass),
    };
    const driver = { resource: resources.csiDrivers, store: csiDrivers, trim: trimDriver };
    await Promise.all([
      ...reflect<StoredImage>(context, image, signal),
      ...reflect<StoredClaim>(context, claim, signal),
      ...reflect<Pod>(context, pod, signal),
      ...reflect<StoredClass>(context, storageClass, signal),
      ...reflect<KubernetesObject>(context, driver, signal),
    ]);
  }

  /** Works until `signal` is aborted, and then until what was begun is done; leaders only. */
  async work(signal: AbortSignal): Promise<void> {
    await syncedOrAborted(Object.values(this.world), signal);
    if (signal.aborted) {
      return;
    }
    this.#addAll(allKeys(this.world));
    using _monitor = this.#monitor;
    await runPasses(
      {
        queue: this.#queue,
        workers: WORKERS,
        reconcile: (key) => this.reconcile(key),
        over: "a VirtualMachineImage",
        logger: this.#options.logger,
        onFailed: this.#options.onPassFailed,
      },
      signal,
    );
  }

  /** One pass over one image and the claims that name it. */
  async reconcile(key: string): Promise<void> {
    const { clock, settings, client, events, logger } = this.#options;
    const { world } = this;
    const observation = observe(world, key, {
      progressOf: (podUID) => this.#monitor.progress(podUID),
      writersOf: this.#options.writersOf,
    });
    const decision = decide(observation, settings, clock.now());
    const hands = { client, world, monitor: this.#monitor, events, logger, settings };
    for (const action of decision.actions) {
      await act(action, observation.image, key, hands);
    }
    if (decision.wakeAtMs !== undefined) {
      this.#queue.addAfter(key, Math.max(0, decision.wakeAtMs - clock.now()));
    }
  }

  #connect(): void {
    const { images, claims, pods, storageClasses, csiDrivers } = this.world;
    images.onChange(({ key }) => this.#queue.add(key));
    claims.onChange(({ previous, current }) => {
      for (const claim of [previous, current]) {
        if (claim !== undefined) this.#addAll(keysOfClaim(this.world, claim));
      }
    });
    pods.onChange(({ previous, current }) => {
      if (previous?.metadata?.uid !== undefined && previous.metadata.uid !== current?.metadata?.uid) {
        this.#monitor.forget(previous.metadata.uid);
      }
      this.#addAll(keysOfPod(this.world, current ?? previous ?? {}));
    });
    for (const store of [storageClasses, csiDrivers]) {
      store.onChange(() => this.#addAll(allKeys(this.world)));
    }
  }

  #addAll(keys: Iterable<string>): void {
    for (const key of keys) {
      this.#queue.add(key);
    }
  }
}
