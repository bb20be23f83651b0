import type { Client } from "./client.ts";
import type { Clock } from "./clock.ts";
import type { Logger } from "./logger.ts";
import { Reflector } from "./reflector.ts";
import type { Store } from "./store.ts";
import type { KubernetesObject, Resource } from "./wire.ts";

export interface ReflectContext {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Namespaces to serve; all when empty. */
  readonly namespaces: readonly string[];
}

export interface Reflection<T extends KubernetesObject> {
  readonly resource: Resource;
  readonly store: Pick<Store<T>, "put" | "remove" | "replace" | "markSynced">;
  /** Drops what the store need not keep. */
  readonly trim: (object: T) => T;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

/**
 * Keeps a store equal to what the API server has in the namespaces that are served, one reflector in each, until `signal`
 * is aborted. The store is synced once all of them have listed.
 */
export function reflect<T extends KubernetesObject>(
  { client, clock, logger, namespaces }: ReflectContext,
  { resource, store, trim, labelSelector, fieldSelector }: Reflection<T>,
  signal: AbortSignal,
): Promise<void>[] {
  const scopes = resource.namespaced && namespaces.length > 0 ? namespaces : [undefined];
  let waiting = scopes.length;
  const onSynced = () => {
    waiting -= 1;
    if (waiting === 0) {
      store.markSynced();
    }
  };
  return scopes.map((namespace) => {
    const selection = { namespace, labelSelector, fieldSelector };
    return new Reflector<T>({ client, resource, selection, store, clock, logger, trim, onSynced }).run(signal);
  });
}

/** Resolves once all have been listed, or `signal` is aborted. */
export async function syncedOrAborted(
  stores: readonly { readonly synced: Promise<void> }[],
  signal: AbortSignal,
): Promise<void> {
  const synced = Promise.all(stores.map((store) => store.synced));
  const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  await Promise.race([synced, aborted]);
}
