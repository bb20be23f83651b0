import { virtualMachines } from "../../operator/src/controllers/virtualmachine/names.ts";
import type { StoredVirtualMachine } from "../../operator/src/controllers/virtualmachine/observe.ts";
import type { Client } from "../../operator/src/runtime/client.ts";
import type { KubernetesObject, Pod, Resource } from "../../operator/src/runtime/wire.ts";
import { resources } from "../../operator/src/runtime/wire.ts";
import { follow } from "./follow.ts";

/** What can be seen of a machine or pod, in the order in which it comes. */
export type Sight =
  | "vm accepted"
  | "pod created"
  | "scheduled"
  | "address"
  | "pod Running"
  | "pod Ready"
  | "vm Running";

/** When a watch first saw what of each object of a namespace, in milliseconds since the epoch. */
export class ClusterTimeline implements AsyncDisposable {
  readonly #client: Client;
  readonly #namespace: string;
  readonly #seen = new Map<string, Map<Sight, number>>();
  readonly #present = new Set<string>();
  readonly #stop = new AbortController();
  readonly #watches: Promise<void>[];
  #changed = Promise.withResolvers<void>();

  constructor(client: Client, namespace: string) {
    this.#client = client;
    this.#namespace = namespace;
    this.#watches = [
      this.#follow<StoredVirtualMachine>(virtualMachines, (vm) => {
        const sights: Sight[] = ["vm accepted"];
        if (vm.status?.phase === "Running") sights.push("vm Running");
        return sights;
      }),
      this.#follow<Pod>(resources.pods, sightsOfPod),
    ];
  }

  /** Times of one machine and its pod, or of a pod that is no machine's. */
  of(name: string): ReadonlyMap<Sight, number> {
    return this.#seen.get(name) ?? new Map();
  }

  /** Waits until all the named have been seen so. */
  async until(names: readonly string[], sight: Sight, timeoutMs: number): Promise<void> {
    await this.#wait(() => names.every((name) => this.of(name).has(sight)), `${names.length} x ${sight}`, timeoutMs);
  }

  /** Waits until nothing is left in the namespace, and forgets what was. */
  async empty(timeoutMs: number): Promise<void> {
    await this.#wait(() => this.#present.size === 0, "everything to be gone", timeoutMs);
    this.#seen.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#watches);
  }

  async #wait(isSo: () => boolean, what: string, timeoutMs: number): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error(`waited ${timeoutMs} ms for ${what}`)), timeoutMs);
    try {
      while (!isSo()) await Promise.race([this.#changed.promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #follow<T extends KubernetesObject>(resource: Resource, sights: (object: T) => Sight[]): Promise<void> {
    const of = { resource, namespace: this.#namespace, signal: this.#stop.signal };
    return follow<T>(this.#client, of, (object, type) => {
      const now = Date.now();
      const objectName = object.metadata?.name ?? "";
      const id = `${resource.plural}/${objectName}`;
      if (type === "DELETED") this.#present.delete(id);
      else this.#present.add(id);
      const name = resource === resources.pods ? objectName.replace(/^vm-/, "") : objectName;
      const seen = this.#seen.get(name) ?? new Map<Sight, number>();
      this.#seen.set(name, seen);
      for (const sight of sights(object)) if (!seen.has(sight)) seen.set(sight, now);
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    });
  }
}

function sightsOfPod({ spec, status }: Pod): Sight[] {
  const sights: Sight[] = ["pod created"];
  if (spec?.nodeName !== undefined) sights.push("scheduled");
  if (status?.podIP !== undefined) sights.push("address");
  if (status?.phase === "Running") sights.push("pod Running");
  if (status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True")) sights.push("pod Ready");
  return sights;
}
