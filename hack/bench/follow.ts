import type { Client } from "../../operator/src/runtime/client.ts";
import type { KubernetesObject, Resource } from "../../operator/src/runtime/wire.ts";

const WATCH_SECONDS = 3600;

/** Hands over what happens from now on to a namespace's objects, until `signal` is aborted; rejects where the watch breaks. */
export async function follow<T extends KubernetesObject>(
  client: Client,
  of: { readonly resource: Resource; readonly namespace: string; readonly signal: AbortSignal },
  take: (object: T, type: "ADDED" | "MODIFIED" | "DELETED") => void,
): Promise<void> {
  const { resource, namespace, signal } = of;
  const { metadata } = await client.list<T>(resource, { namespace });
  const resourceVersion = metadata?.resourceVersion ?? "";
  try {
    const options = { namespace, resourceVersion, timeoutSeconds: WATCH_SECONDS, signal };
    for await (const event of client.watch<T>(resource, options)) {
      if (event.type === "ERROR") throw new Error(`watch of ${resource.plural}: ${event.object.message}`);
      if (event.type !== "BOOKMARK") take(event.object, event.type);
    }
    throw new Error(`watch of ${resource.plural}: the server ended it`);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
