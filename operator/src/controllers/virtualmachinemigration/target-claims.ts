import { formatBytes, parseQuantity } from "../../../../crds/src/quantity.ts";
import type { Pod } from "../../runtime/wire.ts";
import { type ClaimFacts, claimDisks, claimOfPod, diskBytes } from "../virtualmachine/claims.ts";
import { isShared, whyNotCopied } from "../virtualmachine/migratable.ts";
import { asRecorded } from "../virtualmachine/moved-disks.ts";
import { annotations } from "../virtualmachine/names.ts";
import { otherMachineOn, podsOnClaim, type StoredVirtualMachine, type World } from "../virtualmachine/observe.ts";
import { isUnderWay, type StoredMigration } from "./stored.ts";

type TargetClaim = NonNullable<StoredMigration["spec"]["targetClaims"]>[number];

interface Facts {
  readonly world: World;
  readonly migration: StoredMigration;
  /** With its disks where they were moved to. */
  readonly vm: StoredVirtualMachine;
  /** The pod that the machine is in. */
  readonly pod: Pod;
}

/** What speaks against spec.targetClaims of a migration, the first of it. */
export function targetClaimProblem(
  world: World,
  migration: StoredMigration,
  stored: StoredVirtualMachine | undefined,
  pod: Pod | undefined,
): string | undefined {
  const wanted = migration.spec.targetClaims ?? [];
  if (stored === undefined || pod === undefined || wanted.length === 0) return undefined;
  const facts = { world, migration, pod, vm: asRecorded(stored) };
  for (const each of wanted) {
    const problem = problemOf(each, facts);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Disks on claims that two nodes cannot have, and that spec.targetClaims does not name; empty where they alone were in the way. */
export function disksWithoutTarget(
  { claims }: Pick<World, "claims">,
  { spec }: StoredMigration,
  stored: StoredVirtualMachine,
): string[] {
  const vm = asRecorded(stored);
  const isNamed = (name: string) => spec.targetClaims?.some(({ disk }) => disk === name) === true;
  return claimDisks(vm).flatMap(({ disk, claimName }) => {
    const claim = claims.get(`${vm.metadata.namespace}/${claimName}`)?.facts;
    return claim === undefined || isShared(claim, disk) || isNamed(disk.name) ? [] : [disk.name];
  });
}

function problemOf(wanted: TargetClaim, facts: Facts): string | undefined {
  const { vm, pod, world } = facts;
  const field = `spec.targetClaims[${wanted.disk}]`;
  const found = claimDisks(vm).find(({ disk }) => disk.name === wanted.disk);
  if (found === undefined) {
    const exists = vm.spec.disks.some(({ name }) => name === wanted.disk);
    return exists
      ? `${field}: the disk is on no PersistentVolumeClaim; what is on the node is copied anyway, so leave it out`
      : `${field}: VirtualMachine ${vm.metadata.name} has no disk of that name in spec.disks`;
  }
  const { disk, claimName } = found;
  if (claimOfPod(pod, disk.name) !== claimName)
    return `${field}: spec.disks has another claim (${claimName}) than the machine runs with (${claimOfPod(pod, disk.name) ?? "none"}); change it back until the machine has moved`;
  if (wanted.claimName === claimName)
    return `${field}: claim ${claimName} is the one that the disk is on; name another`;
  const claimAt = (name: string) => world.claims.get(`${vm.metadata.namespace}/${name}`)?.facts;
  const [source, target] = [claimAt(claimName), claimAt(wanted.claimName)];
  const why = source === undefined ? `its claim ${claimName} does not exist` : whyNotCopied(disk);
  if (why !== undefined || source === undefined) return `${field}: disk ${disk.name} cannot be copied: ${why}`;
  const unfit = unfitness(target, sizeOf(disk.name, source, vm)) ?? usedBy(wanted.claimName, facts);
  return unfit === undefined ? undefined : `${field}: claim ${wanted.claimName} ${unfit}`;
}

/** Why a claim cannot take a disk of that size. */
function unfitness(target: ClaimFacts | undefined, sizeBytes: number): string | undefined {
  if (target === undefined) return "does not exist; create it";
  if (target.deleting) return "is being deleted; name another";
  if (target.phase === "Lost") return "has lost its volume; name another";
  if (target.accessModes.every((mode) => mode === "ReadOnlyMany")) return "can only be read; name another";
  if (target.import !== undefined) return "begins with a VirtualMachineImage; name an empty one";
  if (diskBytes(target) < sizeBytes)
    return `is smaller (${formatBytes(diskBytes(target))}) than the disk (${formatBytes(sizeBytes)}); name one that is as large`;
  return undefined;
}

/** As the guest sees it, where that is known. */
function sizeOf(disk: string, source: ClaimFacts, { status }: StoredVirtualMachine): number {
  const seen = status?.volumes?.find(({ name }) => name === disk)?.size;
  return seen === undefined ? diskBytes(source) : parseQuantity(seen);
}

/** Who else has the claim, or is about to. */
function usedBy(claimName: string, { world, migration, vm }: Facts): string | undefined {
  const { namespace, uid } = migration.metadata;
  const key = `${namespace}/${claimName}`;
  const own = claimDisks(vm).find((each) => each.claimName === claimName)?.disk;
  if (own !== undefined) return `is what disk ${own.name} of the machine is on; name an empty one`;
  const other = otherMachineOn(world, key, vm.metadata.uid ?? "");
  if (other !== undefined) return `is what VirtualMachine ${other} has, or is to have; name one that nobody has`;
  const pod = podsOnClaim(world, key).find(({ metadata }) => metadata?.annotations?.[annotations.migration] !== uid);
  if (pod !== undefined) return `is in use by pod ${pod.metadata?.name}; name one that nobody has`;
  const rival = [...world.migrations.values()].find(
    (each) =>
      each.metadata.uid !== uid &&
      each.metadata.namespace === namespace &&
      isUnderWay(each) &&
      comesBefore(each, migration) &&
      each.spec.targetClaims?.some((one) => one.claimName === claimName) === true,
  );
  return rival === undefined ? undefined : `is where VirtualMachineMigration ${rival.metadata.name} copies to`;
}

/** Of two that begin in the same moment, one gives way. */
function comesBefore(a: StoredMigration, b: StoredMigration): boolean {
  const rank = ({ metadata, status }: StoredMigration) => `${status?.startedAt ?? "~"} ${metadata.uid}`;
  return rank(a) < rank(b);
}
