import type { Condition } from "../../../../crds/src/condition.ts";
import type { Disk } from "../../../../crds/src/disk.ts";
import type { Reason } from "../../../../crds/src/reasons.ts";
import type { ConditionDraft } from "../../runtime/conditions.ts";
import type { Pod } from "../../runtime/wire.ts";
import { type ClaimFacts, claimDisks } from "./claims.ts";
import { askedNetworks, cameWhileRunning } from "./interface-hot-plug.ts";
import { interfacesOf, podInterfaceOf } from "./interfaces.ts";
import { annotations } from "./names.ts";
import type { LauncherFacts, Observation } from "./observation.ts";
import type { View } from "./status.ts";

type Draft = ConditionDraft<Condition>;

/** One thing that keeps a machine where it is: the condition's reason if it is the first, and a sentence of its message. */
interface Obstacle {
  readonly reason: Reason;
  readonly message: string;
}

/**
 * The condition Migratable: whether the machine could move now, and all that is in its way. What a launcher can move is its
 * own word (`LauncherStatus.cannotMove`), so that each version of it says what holds for itself; what the cluster has to say
 * of volumes is added here.
 */
export function migratableCondition(observation: Observation, own: Pod | undefined, view: View): Draft {
  const { launcher, vm } = observation;
  if (own === undefined || view.running === "False") {
    return no({ reason: "NotRunning", message: "The machine does not run: there is nothing to move" });
  }
  const facts = launcher?.podUID === own.metadata?.uid ? launcher : undefined;
  if (view.running === "Unknown" || facts?.status === undefined) {
    const before = vm.status?.conditions?.find(({ type }) => type === "Migratable");
    const isOfThisPod =
      before !== undefined && before.reason !== "NotRunning" && vm.status?.podUID === own.metadata?.uid;
    // A new operator has not heard from the launcher yet; what its predecessor saw holds until then.
    return isOfThisPod && view.running === "True"
      ? { type: "Migratable", status: before.status, reason: before.reason as Reason, message: before.message }
      : { type: "Migratable", status: "Unknown", reason: "Unknown", message: "The launcher has not been heard yet" };
  }
  const [soft, hard] = claimObstacles(observation);
  const others = [
    ...hard,
    ...attachmentObstacles(observation),
    ...interfaceObstacles(observation),
    ...launcherObstacles(facts),
  ];
  const obstacles = [...soft, ...others];
  const [first] = [...others, ...soft];
  if (first === undefined) {
    return {
      type: "Migratable",
      status: "True",
      reason: "AsExpected",
      message: "The machine can move to another node",
    };
  }
  return no({ reason: first.reason, message: obstacles.map(({ message }) => message).join("; ") });
}

function no({ reason, message }: Obstacle): Draft {
  return { type: "Migratable", status: "False", reason, message };
}

/** While it moves, two nodes have the machine's volumes. First what targetClaims of a migration help with, then the rest. */
function claimObstacles({ vm, claims }: Observation): [Obstacle[], Obstacle[]] {
  const soft: Obstacle[] = [];
  const hard: Obstacle[] = [];
  for (const { disk, claimName } of claimDisks(vm)) {
    const claim = claims[claimName];
    if (claim === undefined || isShared(claim, disk)) continue;
    const wanted = disk.readOnly ? "ReadOnlyMany or ReadWriteMany" : "ReadWriteMany";
    const modes = claim.accessModes.join(", ") || "of no access mode";
    const message = `Disk ${disk.name} is on claim ${claimName}, which is ${modes}: two nodes cannot have it at once. Use a claim that is ${wanted}`;
    const why = whyNotCopied(disk);
    if (why === undefined) {
      const wayOut = `, or name an empty claim for disk ${disk.name} in spec.targetClaims of a VirtualMachineMigration`;
      soft.push({ reason: "TargetClaimsNeeded", message: message + wayOut });
    } else hard.push({ reason: "DiskNotMigratable", message: `${message} (spec.targetClaims does not help: ${why})` });
  }
  return [soft, hard];
}

/** Why a migration cannot copy a disk to another claim; undefined where it can. */
export function whyNotCopied(disk: Disk): string | undefined {
  return disk.readOnly ? "the disk is readOnly, and nobody could fill the other claim" : undefined;
}

/** Whether two nodes can have the claim at once, as that disk. */
export function isShared({ accessModes }: ClaimFacts, disk: Disk): boolean {
  return accessModes.includes("ReadWriteMany") || (disk.readOnly && accessModes.includes("ReadOnlyMany"));
}

/** Their volumes are held by pods of the node that the machine is on. */
function attachmentObstacles({ attachments }: Observation): Obstacle[] {
  return attachments.map((pod) => {
    const disk = pod.metadata?.annotations?.[annotations.attachedDisk] ?? pod.metadata?.name;
    const message = `Disk ${disk} came while the machine ran, and a pod on this node holds it. A restart makes it one like the others`;
    return { reason: "DiskNotMigratable", message };
  });
}

function interfaceObstacles(observation: Observation): Obstacle[] {
  const { vm } = observation;
  const came = cameWhileRunning(observation).map((name): Obstacle => {
    const message = `Interface ${name} came while the machine ran. A restart makes it one like the others`;
    return { reason: "InterfaceNotMigratable", message };
  });
  const own = interfacesOf(vm.spec).filter(({ podIP }) => podIP !== undefined);
  const ofPod = own.map(({ name }): Obstacle => {
    const message = `Interface ${name} has the pod's own address, which stays with the pod. Use masquerade or multus`;
    return { reason: "InterfaceNotMigratable", message };
  });
  return [...ofPod, ...came, ...foreignMacs(observation)];
}

/** A guest keeps its MAC address when it moves; one that Multus' plugin would not give it is another on each node. */
function foreignMacs({ pod, launcher }: Observation): Obstacle[] {
  if (pod === undefined || launcher?.podUID !== pod.metadata?.uid) return [];
  const asked = new Map(askedNetworks(pod).map((network) => [network.interface, network.mac]));
  return (launcher?.status?.interfaces ?? []).flatMap(({ name, mac }): Obstacle[] => {
    const wanted = asked.get(podInterfaceOf({ name }));
    if (wanted === undefined || wanted === mac) return [];
    const message = `Interface ${name} has MAC address ${mac} of its network on this node, as a vlan has its parent's: on another node it is another. Use a network of type bridge or macvlan`;
    return [{ reason: "InterfaceNotMigratable", message }];
  });
}

function launcherObstacles({ status }: LauncherFacts): Obstacle[] {
  if (status?.cannotMove === undefined) {
    const message = `Launcher ${status?.launcherVersion || "of an unknown version"} does not say that it can move a machine. Restart the machine to have a newer one`;
    return [{ reason: "LauncherNotMigratable", message }];
  }
  const full = status.pause?.storageFull ?? [];
  const said = status.cannotMove.map((sentence) => ({
    reason: "LauncherNotMigratable" as const,
    message: capital(sentence),
  }));
  return full.length === 0
    ? said
    : [...said, { reason: "StorageFull", message: `The storage of disk ${full.join(", ")} is full: make room first` }];
}

function capital(sentence: string): string {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}
