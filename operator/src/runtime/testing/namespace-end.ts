import { formatTime } from "../clock.ts";
import type { FakeApiServer } from "./fake-api-server.ts";

/**
 * Deletes a namespace as the API server and its controller do: nothing new comes into it, and everything in it is asked to go, kind
 * by kind in the given order, again and again. What has a finalizer stays, and the namespace with it; pods that run have
 * their grace. Each call of the answer is one step; it tells whether the namespace is empty.
 */
export function endNamespace(server: FakeApiServer, namespace: string, kinds: readonly string[]): () => boolean {
  const message = `namespace ${namespace} is being terminated`;
  const causes = [{ reason: "NamespaceTerminating", message, field: "metadata.namespace" }];
  server.admit = () => ({
    code: 403,
    reason: "Forbidden",
    message: `unable to create: ${message}`,
    details: { causes },
  });
  const inside = (kind: string) => server.all(kind).filter(({ metadata }) => metadata?.namespace === namespace);
  let turn = 0;
  return () => {
    const kind = kinds[turn++ % kinds.length] ?? "";
    for (const { metadata, status } of inside(kind)) {
      const { name = "", finalizers = [], deletionTimestamp } = metadata ?? {};
      const isPodThatRuns = kind === "pods" && status?.["phase"] === "Running";
      if (finalizers.length === 0 && !isPodThatRuns) server.erase(kind, namespace, name);
      else if (deletionTimestamp === undefined)
        server.edit(kind, namespace, name, (copy) => {
          copy.metadata = { ...copy.metadata, deletionTimestamp: formatTime(server.now()) };
        });
    }
    return kinds.every((each) => inside(each).length === 0);
  };
}
