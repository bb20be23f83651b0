import { stringify } from "yaml";
import type { KubernetesObject } from "../../../operator/src/runtime/wire.ts";
import type { Environment } from "../environment.ts";

/** One object, or a List of several, as kubectl prints them with -o json, yaml or name. */
export function printObjects(
  environment: Pick<Environment, "stdout">,
  objects: readonly KubernetesObject[],
  format: string,
): void {
  if (format === "name") {
    for (const { metadata } of objects) environment.stdout.write(`virtualmachine.typevisor.io/${metadata?.name}\n`);
    return;
  }
  const [only] = objects;
  const plain = objects.map(withoutManagedFields);
  const value =
    objects.length === 1 && only !== undefined ? plain[0] : { apiVersion: "v1", kind: "List", items: plain };
  printValue(environment, value, format);
}

/** Anything, as JSON or YAML. */
export function printValue(environment: Pick<Environment, "stdout">, value: unknown, format: string): void {
  environment.stdout.write(format === "json" ? `${JSON.stringify(value, null, 2)}\n` : stringify(value));
}

function withoutManagedFields(object: KubernetesObject): KubernetesObject {
  const { managedFields: _, ...metadata } = object.metadata ?? {};
  return { ...object, metadata };
}
