import type { KubernetesObject } from "../../../operator/src/runtime/wire.ts";
import { FIELD_MANAGER } from "../cluster/cluster.ts";

/** Argo CD applies from the client unless told otherwise, so that its writes look like anybody's. */
const ARGO_MANAGERS = new Set(["argocd-controller", "argocd-application-controller"]);

/**
 * Who declares `spec.FIELD` and will set it back: a manager that applies on the server (Flux, `kubectl apply
 * --server-side`, Argo CD either way). Undefined where nobody does.
 */
export function declaredBy(object: KubernetesObject, field: string): string | undefined {
  return object.metadata?.managedFields?.find(({ manager = "", operation, subresource, fieldsV1 }) => {
    const declares = operation === "Apply" || ARGO_MANAGERS.has(manager);
    return declares && !subresource && manager !== FIELD_MANAGER && ownsSpecField(fieldsV1, field);
  })?.manager;
}

function ownsSpecField(fields: unknown, field: string): boolean {
  const spec = (fields as Record<string, unknown> | undefined)?.["f:spec"] as Record<string, unknown> | undefined;
  return spec !== undefined && `f:${field}` in spec;
}
