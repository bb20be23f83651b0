import { parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import { KVM_RESOURCE } from "../../../../launcher/api/agent.ts";
import { Store } from "../../runtime/store.ts";
import type { KubernetesObject, Node, Pod } from "../../runtime/wire.ts";
import { identityOf, podKeyOf, VM_LABEL } from "./names.ts";
import type { LauncherFacts, NodeFacts, Observation, PodWarning, Refusal } from "./observation.ts";

/** A VirtualMachine as an object of a store. */
export type StoredVirtualMachine = VirtualMachine & KubernetesObject;

/** A node as far as it is kept. */
export interface StoredNode extends KubernetesObject {
  facts: NodeFacts;
}

/** What the controller sees of the cluster. */
export interface World {
  readonly virtualMachines: Store<StoredVirtualMachine>;
  readonly pods: Store<Pod>;
  readonly nodes: Store<StoredNode>;
}

const POD_NODE_INDEX = "node";

/** Empty stores with the indexes that the controller needs. */
export function createWorld(): World {
  return {
    virtualMachines: new Store(),
    pods: new Store({ [POD_NODE_INDEX]: (pod) => (pod.spec?.nodeName === undefined ? [] : [pod.spec.nodeName]) }),
    nodes: new Store(),
  };
}

/** Keys of the VirtualMachines that a pod is of interest to. */
export function keysOfPod(pod: Pod): string[] {
  const name = pod.metadata?.labels?.[VM_LABEL];
  return name === undefined ? [] : [`${pod.metadata?.namespace}/${name}`];
}

/** Keys of the VirtualMachines that a node is of interest to: those on it, and all that wait for one. */
export function keysOfNode(world: World, nodeName: string): string[] {
  const there = world.pods.byIndex(POD_NODE_INDEX, nodeName);
  const waiting = [...world.pods.values()].filter((pod) => pod.spec?.nodeName === undefined);
  return [...there, ...waiting].flatMap(keysOfPod);
}

/** Keeps of a node what decisions need: the rest, images above all, is most of its size. */
export function trimNode(node: Node): StoredNode {
  const { name = "", resourceVersion, uid } = node.metadata ?? {};
  const ready = node.status?.conditions?.find((condition) => condition.type === "Ready")?.status;
  const allocatable = node.status?.allocatable ?? {};
  return {
    metadata: {
      name,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
    facts: {
      name,
      ready: ready === "True" || ready === "False" ? ready : "Unknown",
      outOfService: (node.spec?.taints ?? []).some((taint) => taint.key === "node.kubernetes.io/out-of-service"),
      kvmDevices: parseQuantity(allocatable[KVM_RESOURCE] ?? 0),
      memoryBytes: parseQuantity(allocatable["memory"] ?? 0),
    },
  };
}

/** Drops what is never looked at, to keep thousands of pods small. */
export function trimPod(pod: Pod): Pod {
  const { managedFields: _, ...metadata } = pod.metadata ?? {};
  return { ...pod, metadata };
}

/** Drops the bookkeeping of server-side apply. */
export function trimVirtualMachine(vm: StoredVirtualMachine): StoredVirtualMachine {
  const { managedFields: _, ...metadata } = vm.metadata;
  return { ...vm, metadata };
}

/** The world as it concerns one VirtualMachine. */
export function observe(
  world: World,
  vm: StoredVirtualMachine,
  memory: {
    readonly launcher: (podUID: string) => LauncherFacts | undefined;
    readonly refusal: Refusal | undefined;
    readonly warnings: (podUID: string) => readonly PodWarning[] | undefined;
    readonly departed: Pod | undefined;
    readonly trustId: string;
  },
): Observation {
  const pod = world.pods.get(podKeyOf(identityOf(vm)));
  const nodeName = pod?.spec?.nodeName;
  return {
    vm,
    pod,
    departed: memory.departed,
    node: nodeName === undefined ? undefined : (world.nodes.get(nodeName)?.facts ?? null),
    nodes: pod !== undefined && nodeName === undefined ? [...world.nodes.values()].map((node) => node.facts) : [],
    launcher: pod?.metadata?.uid === undefined ? undefined : memory.launcher(pod.metadata.uid),
    refusal: memory.refusal,
    warnings: memory.warnings(pod?.metadata?.uid ?? ""),
    trustId: memory.trustId,
  };
}
