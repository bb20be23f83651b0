import type { V1DaemonSet, V1Deployment, V1Namespace } from "@kubernetes/client-node";
import { ApiError } from "../../../operator/src/runtime/errors.ts";
import {
  type KubernetesObject,
  type Node,
  type Pod,
  type Resource,
  resources,
  type Wire,
} from "../../../operator/src/runtime/wire.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { listAll, type Machine, virtualMachines } from "../cluster/machines.ts";
import { eachRunning, readPodMetrics } from "../cluster/pod-metrics.ts";
import type { PersistentVolume, StorageClass } from "./storage.ts";

/** What could not be read, since the user lacks the right. */
export interface Unreadable {
  readonly unreadable: string;
}

export type Readable<T> = T | Unreadable;

export type Namespace = Wire<V1Namespace>;
export type DaemonSet = Wire<V1DaemonSet>;
export type Deployment = Wire<V1Deployment>;

/** As much of a CustomResourceDefinition as is looked at. */
export interface Definition extends KubernetesObject {
  readonly spec?: { readonly versions?: readonly { readonly name: string; readonly served: boolean }[] };
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
}

/** All that the checks look at, read once. */
export interface ClusterFacts {
  readonly serverVersion: string;
  readonly definition: Readable<Definition | undefined>;
  readonly nodes: Readable<readonly Node[]>;
  readonly operators: Readable<readonly Deployment[]>;
  readonly agents: Readable<readonly DaemonSet[]>;
  readonly agentPods: Readable<readonly Pod[]>;
  readonly namespaces: Readable<readonly Namespace[]>;
  readonly storageClasses: Readable<readonly StorageClass[]>;
  readonly volumes: Readable<readonly PersistentVolume[]>;
  /** By node, of the node agents that say. */
  readonly vhostNet: Readable<ReadonlyMap<string, boolean>>;
  /** Empty where the API is not installed. */
  readonly machines: Readable<readonly Machine[]>;
}

export function isUnreadable<T>(fact: Readable<T>): fact is Unreadable {
  return typeof fact === "object" && fact !== null && "unreadable" in fact;
}

const apps = (plural: string, kind: string): Resource => ({
  group: "apps",
  version: "v1",
  plural,
  kind,
  namespaced: true,
});
const definitions: Resource = {
  group: "apiextensions.k8s.io",
  version: "v1",
  plural: "customresourcedefinitions",
  kind: "CustomResourceDefinition",
  namespaced: false,
};
const namespaces: Resource = { group: "", version: "v1", plural: "namespaces", kind: "Namespace", namespaced: false };
const storageClasses: Resource = {
  group: "storage.k8s.io",
  version: "v1",
  plural: "storageclasses",
  kind: "StorageClass",
  namespaced: false,
};
const volumes: Resource = {
  group: "",
  version: "v1",
  plural: "persistentvolumes",
  kind: "PersistentVolume",
  namespaced: false,
};
const component = (name: string) => `app.kubernetes.io/part-of=typevisor,app.kubernetes.io/component=${name}`;

const VHOST_NET_METRIC = "typevisor_node_vhost_net_usable";

/** Reads them all at once; only the API server's silence is an error. */
export async function readFacts(cluster: Cluster): Promise<ClusterFacts> {
  const all = <T extends KubernetesObject>(resource: Resource, labelSelector?: string) =>
    readable(listAll<T>(cluster, resource, labelSelector === undefined ? {} : { labelSelector }), resource.plural);
  const listingAgentPods = all<Pod>(resources.pods, component("node"));
  const askingAgents = listingAgentPods.then((pods) =>
    isUnreadable(pods) ? pods : readable(readVhostNet(cluster, pods), "metrics of node agents (pods/proxy)"),
  );
  const [serverVersion, definition, nodes, operators, agents, agentPods, spaces, classes, disks, machines, vhostNet] =
    await Promise.all([
      readVersion(cluster),
      readable(
        missingAs(cluster.client.get<Definition>(definitions, "", "virtualmachines.typevisor.io"), undefined),
        definitions.plural,
      ),
      all<Node>(resources.nodes),
      all<Deployment>(apps("deployments", "Deployment"), component("controllers")),
      all<DaemonSet>(apps("daemonsets", "DaemonSet"), component("node")),
      listingAgentPods,
      all<Namespace>(namespaces),
      all<StorageClass>(storageClasses),
      all<PersistentVolume>(volumes),
      readable(missingAs(listAll<Machine>(cluster, virtualMachines, {}), []), virtualMachines.plural),
      askingAgents,
    ]);
  return {
    serverVersion,
    definition,
    nodes,
    operators,
    agents,
    agentPods,
    namespaces: spaces,
    storageClasses: classes,
    volumes: disks,
    vhostNet,
    machines,
  };
}

/** Agents that do not answer, or are of a version that does not say, are left out. */
async function readVhostNet(cluster: Cluster, pods: readonly Pod[]): Promise<ReadonlyMap<string, boolean>> {
  const answers = await eachRunning(pods, async (pod) => ({
    node: pod.spec?.nodeName ?? "",
    usable: await askAgent(cluster, pod),
  }));
  return new Map(answers.flatMap(({ node, usable }) => (usable === undefined ? [] : [[node, usable] as const])));
}

async function askAgent(cluster: Cluster, pod: Pod): Promise<boolean | undefined> {
  try {
    const usable = (await readPodMetrics(cluster, pod, "http")).sum(VHOST_NET_METRIC);
    return usable === undefined ? undefined : usable > 0;
  } catch (error) {
    if (error instanceof ApiError && error.isForbidden) throw error;
    return undefined;
  }
}

async function readVersion(cluster: Cluster): Promise<string> {
  const body = await cluster.client.open("/version", { signal: AbortSignal.timeout(30_000) });
  const { gitVersion = "" } = JSON.parse(Buffer.concat(await body.toArray()).toString("utf8")) as {
    gitVersion?: string;
  };
  return gitVersion;
}

async function readable<T>(wanted: Promise<T>, what: string): Promise<Readable<T>> {
  try {
    return await wanted;
  } catch (error) {
    if (error instanceof ApiError && error.isForbidden) {
      return { unreadable: `you lack the right to list ${what} in the whole cluster` };
    }
    throw error;
  }
}

async function missingAs<T, Missing>(wanted: Promise<T>, missing: Missing): Promise<T | Missing> {
  try {
    return await wanted;
  } catch (error) {
    if (error instanceof ApiError && error.isNotFound) return missing;
    throw error;
  }
}
