import type { VirtualMachine } from "../../../crds/src/virtualmachine.ts";
import {
  LAUNCHER_CONTAINER,
  podNameOf,
  virtualMachines,
} from "../../../operator/src/controllers/virtualmachine/names.ts";
import { ApiError } from "../../../operator/src/runtime/errors.ts";
import { type KubernetesObject, type Pod, type Resource, resources } from "../../../operator/src/runtime/wire.ts";
import { CliError, exitCodes } from "../exit-codes.ts";
import type { Cluster } from "./cluster.ts";

export { LAUNCHER_CONTAINER, podNameOf, virtualMachines };

/** A VirtualMachine as the API server gives it, whatever version of Typevisor wrote its status. */
export type Machine = VirtualMachine & KubernetesObject;

/** Which machines a command is about. */
export interface MachineSelection {
  readonly names: readonly string[];
  readonly selector?: string;
}

/** One machine; a CliError where there is none of the name. */
export async function getMachine(cluster: Cluster, name: string): Promise<Machine> {
  return orMissing(cluster.client.get<Machine>(virtualMachines, cluster.namespace, name), () => {
    return `there is no VirtualMachine ${name} in namespace ${cluster.namespace}; kubectl get vm -A lists all`;
  });
}

/** Those of the names, or of the selector; at least one. */
export async function selectMachines(cluster: Cluster, { names, selector }: MachineSelection): Promise<Machine[]> {
  if ((names.length === 0) === (selector === undefined)) {
    throw new CliError("name the machines, or choose them with -l SELECTOR (one of both)", exitCodes.usage);
  }
  if (selector === undefined) {
    return Promise.all(names.map((name) => getMachine(cluster, name)));
  }
  const found = await listAll<Machine>(cluster, virtualMachines, {
    namespace: cluster.namespace,
    labelSelector: selector,
  });
  if (found.length === 0) {
    throw new CliError(`no VirtualMachine in namespace ${cluster.namespace} has ${selector}`, exitCodes.notFound);
  }
  return found;
}

/** All pages of a list. */
export async function listAll<T extends KubernetesObject>(
  cluster: Cluster,
  resource: Resource,
  selection: {
    readonly namespace?: string | undefined;
    readonly labelSelector?: string;
    readonly fieldSelector?: string;
  },
): Promise<T[]> {
  const items: T[] = [];
  let next: string | undefined;
  do {
    const page = await cluster.client.list<T>(resource, { ...selection, limit: 500, continue: next });
    items.push(...page.items);
    next = page.metadata?.continue || undefined;
  } while (next !== undefined);
  return items;
}

/** The pod that a machine runs in now; a CliError that says how the machine stands where it has none. */
export async function getRunningPod(cluster: Cluster, name: string): Promise<Pod> {
  const machine = await getMachine(cluster, name);
  const pod = await findPod(cluster, machine);
  if (pod?.status?.phase !== "Running") {
    const ready = machine.status?.conditions?.find(({ type }) => type === "Ready");
    const why = ready?.message ? `: ${ready.message}` : "";
    throw new CliError(
      `${name} does not run now, it is ${machine.status?.phase ?? "Pending"}${why}`,
      exitCodes.notFound,
    );
  }
  return pod;
}

/** The launcher pod of this very machine, if there is one. */
export async function findPod(cluster: Cluster, machine: Machine): Promise<Pod | undefined> {
  const { name = "", namespace = "", uid } = machine.metadata;
  // A machine that has moved is in a pod of another name.
  const podName = machine.status?.podName || podNameOf(name);
  const pod = await orUndefined(cluster.client.get<Pod>(resources.pods, namespace, podName));
  return pod?.metadata?.ownerReferences?.some((owner) => owner.uid === uid) ? pod : undefined;
}

/** The object, or undefined where there is none. */
export async function orUndefined<T>(wanted: Promise<T>): Promise<T | undefined> {
  try {
    return await wanted;
  } catch (error) {
    if (error instanceof ApiError && error.isNotFound) {
      return undefined;
    }
    throw error;
  }
}

async function orMissing<T>(wanted: Promise<T>, sentence: () => string): Promise<T> {
  try {
    return await wanted;
  } catch (error) {
    // Without a reason it is the whole API that is missing.
    if (error instanceof ApiError && error.isNotFound && error.status.reason !== undefined) {
      throw new CliError(sentence(), exitCodes.notFound);
    }
    throw error;
  }
}
