import { stringify } from "yaml";
import type { KubernetesObject } from "../../../operator/src/runtime/wire.ts";
import type { Machine } from "../cluster/machines.ts";
import type { Environment } from "../environment.ts";
import { table } from "./table.ts";

/** One object, or a List of several, as kubectl prints them with -o json, yaml or name; machines, one a line, with -o wide. */
export function printObjects(
  environment: Pick<Environment, "stdout">,
  objects: readonly KubernetesObject[],
  format: string,
): void {
  if (format === "name") {
    for (const { metadata } of objects) environment.stdout.write(`virtualmachine.typevisor.io/${metadata?.name}\n`);
    return;
  }
  if (format === "wide") {
    environment.stdout.write(machineTable(objects as readonly Machine[]));
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

/** As they were when the command ended: with --wait, when it was so. */
function machineTable(machines: readonly Machine[]): string {
  return table(
    ["NAME", "PHASE", "READY", "NODE", "IP", "RUN STRATEGY", "PAUSED", "RESTARTS"],
    machines.map(({ metadata, spec, status }) => [
      metadata.name ?? "",
      status?.phase ?? "Pending",
      status?.conditions?.find(({ type }) => type === "Ready")?.status ?? "Unknown",
      status?.node ?? "-",
      status?.podIP ?? "-",
      spec.runStrategy,
      spec.paused ? "yes" : "no",
      String(status?.restarts ?? 0),
    ]),
  );
}
