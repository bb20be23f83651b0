import { parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import { KVM_RESOURCE } from "../../../../launcher/api/agent.ts";
import { Store } from "../../runtime/store.ts";
import { controllerOf, type KubernetesObject, type Node, type Pod } from "../../runtime/wire.ts";
import { nodeCpuOf } from "../../scheduling/node-cpu.ts";
import { abandonedMove } from "../virtualmachinemigration/abandoned.ts";
import { machineKeyOf, type StoredMigration } from "../virtualmachinemigration/stored.ts";
import { type Claims, claimDisks, claimKeysOfMachine, claimKeysOfPod, type StoredClaim, writesTo } from "./claims.ts";
import { type LauncherPods, launcherPodsOf } from "./launcher-pods.ts";
import { asRecorded, movedDisks, withMovedDisks } from "./moved-disks.ts";
import { ATTACHMENT_LABEL, identityOf, podKeysOf, VM_LABEL } from "./names.ts";
import type { LauncherFacts, NodeFacts, Observation, PodWarning, Rival } from "./observation.ts";
import type { MachineRefusals } from "./refusals.ts";

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
  readonly claims: Store<StoredClaim>;
  readonly migrations: Store<StoredMigration>;
}

const POD_NODE_INDEX = "node";
const ATTACHMENT_INDEX = "attachment";
const CLAIM_INDEX = "claim";
const MACHINE_INDEX = "machine";

/** Empty stores with the indexes that the controller needs. */
export function createWorld(): World {
  return {
    virtualMachines: new Store({ [CLAIM_INDEX]: claimKeysOfMachine }),
    pods: new Store({
      [POD_NODE_INDEX]: (pod) => (pod.spec?.nodeName === undefined ? [] : [pod.spec.nodeName]),
      [CLAIM_INDEX]: claimKeysOfPod,
      [ATTACHMENT_INDEX]: attachmentKeys,
    }),
    nodes: new Store(),
    claims: new Store(),
    migrations: new Store({ [MACHINE_INDEX]: (migration) => [machineKeyOf(migration)] }),
  };
}

/** Keys of the VirtualMachines that a pod is of interest to. */
export function keysOfPod(pod: Pod): string[] {
  return isLauncher(pod) ? [`${pod.metadata?.namespace}/${pod.metadata?.labels?.[VM_LABEL]}`] : attachmentKeys(pod);
}

export function isLauncher(pod: Pod): boolean {
  return pod.metadata?.labels?.[VM_LABEL] !== undefined;
}

function attachmentKeys(pod: Pod): string[] {
  const name = pod.metadata?.labels?.[ATTACHMENT_LABEL];
  return name === undefined ? [] : [`${pod.metadata?.namespace}/${name}`];
}

/** Attachment pods of a machine: of itself, not of a former one of its name. */
function attachmentsOf(world: World, vm: StoredVirtualMachine): Pod[] {
  return world.pods
    .byIndex(ATTACHMENT_INDEX, `${vm.metadata.namespace}/${vm.metadata.name}`)
    .filter((pod) => controllerOf(pod)?.uid === vm.metadata.uid);
}

/** The launcher pods of a machine, told apart. */
export function podsOf(world: Pick<World, "pods">, vm: StoredVirtualMachine): LauncherPods {
  const identity = identityOf(vm);
  const named = podKeysOf(identity).flatMap((key) => world.pods.get(key) ?? []);
  return launcherPodsOf(named, identity.uid);
}

/** What its pods say of a migration that has no object any more; undefined where there is none. */
export function abandonedMoveOf(world: World, vm: StoredVirtualMachine): StoredMigration | undefined {
  const { namespace, name } = identityOf(vm);
  return abandonedMove({ namespace, name }, podsOf(world, vm), migrationsOfKey(world, `${namespace}/${name}`));
}

/** All migrations, those without an object among them. */
export function* movesOf(world: World): Generator<StoredMigration> {
  yield* world.migrations.values();
  for (const vm of world.virtualMachines.values()) {
    const abandoned = abandonedMoveOf(world, vm);
    if (abandoned !== undefined) yield abandoned;
  }
}

/** Migrations of a machine by its key, whatever has become of them. */
export function migrationsOfKey(world: Pick<World, "migrations">, key: string): StoredMigration[] {
  return world.migrations.byIndex(MACHINE_INDEX, key);
}

/** Keys of the VirtualMachines that a node is of interest to: those on it, and all that wait for one. */
export function keysOfNode(world: World, nodeName: string): string[] {
  const there = world.pods.byIndex(POD_NODE_INDEX, nodeName);
  const waiting = [...world.pods.values()].filter((pod) => pod.spec?.nodeName === undefined);
  return [...there, ...waiting].flatMap(keysOfPod);
}

/** Keys of the VirtualMachines that have a disk on one of the claims, given as "namespace/claim". */
export function keysOfClaims(world: World, claimKeys: readonly string[]): string[] {
  return claimKeys.flatMap((claim) =>
    world.virtualMachines.byIndex(CLAIM_INDEX, claim).map((vm) => `${vm.metadata.namespace}/${vm.metadata.name}`),
  );
}

/** The claims of a machine's disks, as far as they exist. */
export function claimsOf(world: World, vm: StoredVirtualMachine): Claims {
  const stored = claimKeysOfMachine(vm).flatMap((key) => world.claims.get(key)?.facts ?? []);
  return Object.fromEntries(stored.map((facts) => [facts.name, facts]));
}

/**
 * Who else has one of the machine's claims, or comes first to have it. A machine that has a pod comes before those
 * that have none, then one that is between two pods, then the older one. Those that only read do not disturb each other.
 */
function rivalsOf(world: World, vm: StoredVirtualMachine): Rival[] {
  const first = claimDisks(vm).flatMap(({ disk, claimName }) =>
    world.virtualMachines
      .byIndex(CLAIM_INDEX, `${vm.metadata.namespace}/${claimName}`)
      .filter((other) => isAboutToStart(other) && comesBefore(other, vm))
      .filter((other) => hasOnDisk(other, claimName, !disk.readOnly))
      .map((other) => ({ claimName, vmName: other.metadata.name ?? "", runs: false })),
  );
  return [...runningRivals(world, vm), ...first];
}

/** Other machines with a pod that has one of the machine's claims. */
export function runningRivals(world: World, vm: StoredVirtualMachine): Rival[] {
  return claimDisks(vm).flatMap(({ disk, claimName }) =>
    world.pods
      .byIndex(CLAIM_INDEX, `${vm.metadata.namespace}/${claimName}`)
      .filter((pod) => controllerOf(pod)?.uid !== vm.metadata.uid && !isFinished(pod))
      .filter((pod) => !disk.readOnly || writesTo(pod, claimName))
      .map((pod) => ({ claimName, vmName: controllerOf(pod)?.name ?? "", runs: true })),
  );
}

/** A machine other than that of the UID which has the claim ("namespace/name"), names it, or is to have it. */
export function otherMachineOn(
  world: Pick<World, "virtualMachines">,
  claimKey: string,
  uid: string,
): string | undefined {
  return world.virtualMachines.byIndex(CLAIM_INDEX, claimKey).find(({ metadata }) => metadata.uid !== uid)?.metadata
    .name;
}

/** Pods of machines with the claim ("namespace/name") that have not ended. */
export function podsOnClaim(world: Pick<World, "pods">, claimKey: string): Pod[] {
  return world.pods.byIndex(CLAIM_INDEX, claimKey).filter((pod) => !isFinished(pod));
}

/** Machines that run with a claim ("namespace/name") that they can write to. */
export function writersOf(world: World, claimKey: string): string[] {
  const claimName = claimKey.slice(claimKey.indexOf("/") + 1);
  const pods = world.pods.byIndex(CLAIM_INDEX, claimKey).filter((pod) => pod.status?.phase === "Running");
  const machines = pods.filter((pod) => writesTo(pod, claimName)).map((pod) => controllerOf(pod)?.name ?? "");
  return [...new Set(machines)].sort();
}

/** Whether a machine has a disk on the claim: any, or one that it can write to. */
function hasOnDisk(vm: StoredVirtualMachine, claimName: string, readOnlyToo: boolean): boolean {
  if (vm.status?.movedDisks?.some(({ nextClaimName }) => nextClaimName === claimName) === true) return true;
  return claimDisks(asRecorded(vm)).some((its) => its.claimName === claimName && (readOnlyToo || !its.disk.readOnly));
}

/** True of a pod that has ended for good. */
export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

/** A machine that is off for good, or that cannot start, does not keep others from what it would have. */
function isAboutToStart({ metadata, spec, status }: StoredVirtualMachine): boolean {
  const off = status?.phase === "Stopped" || status?.phase === "Failed";
  return spec.runStrategy !== "Halted" && metadata.deletionTimestamp === undefined && !off;
}

/** A total order, so that of two that wait for each other one does not. */
function comesBefore(a: StoredVirtualMachine, b: StoredVirtualMachine): boolean {
  if (isBetweenPods(a) !== isBetweenPods(b)) return isBetweenPods(a);
  const ageOf = (vm: StoredVirtualMachine) => Date.parse(vm.metadata.creationTimestamp ?? "");
  return ageOf(a) === ageOf(b) ? (a.metadata.uid ?? "") < (b.metadata.uid ?? "") : ageOf(a) < ageOf(b);
}

const RUN_PHASES: ReadonlySet<string> = new Set([
  "Starting",
  "Running",
  "Paused",
  "Migrating",
  "Stopping",
  "CrashBackOff",
  "Unknown",
]);
const RESTART_REASONS: ReadonlySet<string> = new Set(["Restarting", "StartBackOff"]);

/** A machine that is being restarted keeps its claims meanwhile. */
function isBetweenPods({ status }: StoredVirtualMachine): boolean {
  const ready = status?.conditions?.find((condition) => condition.type === "Ready");
  return RUN_PHASES.has(status?.phase ?? "") || RESTART_REASONS.has(ready?.reason ?? "");
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
      cpu: nodeCpuOf(node),
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

/** The world as it concerns one VirtualMachine, whose spec is `stored` with its disks where they were moved to. */
export function observe(
  world: World,
  stored: StoredVirtualMachine,
  memory: {
    readonly launcher: (podUID: string) => LauncherFacts | undefined;
    readonly refusals: MachineRefusals;
    readonly warnings: (podUID: string) => readonly PodWarning[] | undefined;
    readonly departed: Pod | undefined;
    readonly trustId: string;
  },
): Observation {
  const pods = podsOf(world, stored);
  const { pod, incoming } = pods;
  const identity = identityOf(stored);
  const withObject = migrationsOfKey(world, `${identity.namespace}/${identity.name}`);
  const abandoned = abandonedMove(identity, pods, withObject);
  const migrations = abandoned === undefined ? withObject : [...withObject, abandoned];
  const moved = movedDisks({ vm: stored, pod, incoming, migrations, claims: claimsOf(world, stored) });
  const vm = withMovedDisks(stored, moved);
  const nodeName = pod?.spec?.nodeName;
  const attachments = attachmentsOf(world, vm);
  const uids = attachments.map((each) => each.metadata?.uid ?? "");
  return {
    vm,
    pod,
    incoming,
    migrations,
    movedDisks: moved,
    departed: memory.departed,
    node: nodeName === undefined ? undefined : (world.nodes.get(nodeName)?.facts ?? null),
    nodes: pod !== undefined && nodeName === undefined ? [...world.nodes.values()].map((node) => node.facts) : [],
    claims: claimsOf(world, vm),
    rivals: pod === undefined ? rivalsOf(world, vm) : [],
    attachments,
    attachmentRivals: pod === undefined ? [] : runningRivals(world, vm),
    attachmentWarnings: Object.fromEntries(uids.map((uid) => [uid, memory.warnings(uid) ?? []])),
    deviceRefusals: memory.refusals.devices,
    claimRefusals: memory.refusals.claims,
    launcher: pod?.metadata?.uid === undefined ? undefined : memory.launcher(pod.metadata.uid),
    refusal: memory.refusals.start,
    warnings: memory.warnings(pod?.metadata?.uid ?? ""),
    trustId: memory.trustId,
  };
}
