import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import { controllerOf, type Pod } from "../../runtime/wire.ts";
import { isOver, isUnderWay, type StoredMigration } from "../virtualmachinemigration/stored.ts";
import { type Claims, claimDisks, claimNameOf, claimOfPod } from "./claims.ts";
import { annotations } from "./names.ts";
import { lastWordOf, parseTerminationMessage } from "./termination.ts";

/**
 * A disk that a migration moved to another claim than spec.disks names, or is moving (`nextClaimName`). The record is written
 * before the source is told to begin, so that no end of operator, pods or node in between lets the machine start from a claim
 * that its guest has left.
 */
export type MovedDisk = NonNullable<VirtualMachineStatus["movedDisks"]>[number];

/** What the record of a machine follows from. */
export interface MovedDiskFacts {
  /** With its spec as it is written. */
  readonly vm: VirtualMachine;
  /** The pod that counts. */
  readonly pod: Pod | undefined;
  readonly incoming: Pod | undefined;
  readonly migrations: readonly StoredMigration[];
  readonly claims: Claims;
}

/** The record as it is to be by now. */
export function movedDisks(facts: MovedDiskFacts): MovedDisk[] {
  const recorded = facts.vm.status?.movedDisks ?? [];
  const known = recorded.map((moved) => settled(moved, facts)).filter((moved) => isOfUse(moved, facts));
  const begun = begunMoves(facts, known);
  return [...known.filter(({ name }) => !begun.some((move) => move.name === name)), ...begun];
}

/** The machine with its disks on the claims that they are on: what its pods are made from. */
export function withMovedDisks<Machine extends VirtualMachine>(vm: Machine, moved: readonly MovedDisk[]): Machine {
  if (moved.length === 0) return vm;
  const disks = vm.spec.disks.map((disk) => {
    const named = claimNameOf(disk, vm.metadata.name ?? "");
    const claimName = moved.find((each) => each.name === disk.name && each.specClaimName === named)?.claimName;
    if (claimName === undefined || claimName === named) return disk;
    const { volumeClaimTemplate: _, ...rest } = disk;
    return { ...rest, persistentVolumeClaim: { claimName } };
  });
  return { ...vm, spec: { ...vm.spec, disks } };
}

/** The same by what the machine's status says of them. */
export function asRecorded<Machine extends VirtualMachine>(vm: Machine): Machine {
  return withMovedDisks(vm, vm.status?.movedDisks ?? []);
}

/** Disks of which it is not known yet, or never will be, which of two claims holds them. */
export function unsettledDisks(moved: readonly MovedDisk[]): MovedDisk[] {
  return moved.filter(({ nextClaimName }) => nextClaimName !== undefined);
}

export function isSameRecord(a: readonly MovedDisk[] | undefined, b: readonly MovedDisk[] | undefined): boolean {
  const text = (moved: readonly MovedDisk[] = []) =>
    JSON.stringify(
      moved.map((each) => [each.name, each.specClaimName, each.claimName, each.nextClaimName, each.migrationUID]),
    );
  return text(a) === text(b);
}

/** What a person has to do where it never will be known. */
export function undecidedMessage(moved: readonly MovedDisk[]): string {
  const each = unsettledDisks(moved).map(
    ({ name, claimName, nextClaimName }) =>
      `disk ${name}: name claim ${nextClaimName} in spec.disks[${name}].persistentVolumeClaim.claimName, since the guest may have run on it unless the machine then says that a migration left it unfinished; to go on with ${claimName}, delete claim ${nextClaimName}`,
  );
  return `A migration was lost with both pods of the machine, and nobody knows where the guest ran last. Say which claims count: ${each.join("; ")}`;
}

function settled(moved: MovedDisk, facts: MovedDiskFacts): MovedDisk {
  const { nextClaimName, migrationUID: _, ...rest } = moved;
  if (nextClaimName === undefined) return moved;
  switch (whereItIs(moved, nextClaimName, facts)) {
    case "next":
      return { ...rest, claimName: nextClaimName };
    case "here":
      return rest;
    case "unknown":
      return moved;
  }
}

function whereItIs(
  moved: MovedDisk,
  nextClaimName: string,
  { vm, pod, incoming, migrations, claims }: MovedDiskFacts,
): "next" | "here" | "unknown" {
  const own = pod !== undefined && controllerOf(pod)?.uid === vm.metadata.uid ? pod : undefined;
  if (own !== undefined && claimOfPod(own, moved.name) === nextClaimName) return "next";
  const migration = migrations.find(({ metadata }) => metadata.uid === moved.migrationUID);
  if (migration !== undefined && !isOver(migration)) return "unknown";
  const { claimsInForce } = migration?.status ?? {};
  if (claimsInForce === "Target") return "next";
  if (claimsInForce === "Source") return "here";
  if (incoming !== undefined) return "unknown";
  if (own !== undefined && parseTerminationMessage(lastWordOf(own))?.reason === "Migrated") return "next";
  if (own?.metadata?.annotations?.[annotations.stays] === moved.migrationUID) return "here";
  // Nobody will know any more. Somebody says: by taking the claim away, or by naming another one than before.
  if (claims[nextClaimName] === undefined) return "here";
  const named = claimNamedBySpec(vm, moved.name);
  if (named === nextClaimName) return "next";
  return named === moved.specClaimName ? "unknown" : "here";
}

/** As long as a pod is on the claim, the spec may change and change back. */
function isOfUse(moved: MovedDisk, { vm, pod }: MovedDiskFacts): boolean {
  const { name, specClaimName, claimName, nextClaimName } = moved;
  if (nextClaimName !== undefined) return true;
  if (claimName === specClaimName) return false;
  if (pod !== undefined && claimOfPod(pod, name) === claimName) return true;
  return claimNamedBySpec(vm, name) === specClaimName;
}

function claimNamedBySpec(vm: VirtualMachine, diskName: string): string | undefined {
  return claimDisks(vm).find(({ disk }) => disk.name === diskName)?.claimName;
}

/** Of a migration that has its pod, and may be told to begin once this is written. */
function begunMoves({ vm, pod, incoming, migrations }: MovedDiskFacts, known: readonly MovedDisk[]): MovedDisk[] {
  const uid = incoming?.metadata?.annotations?.[annotations.migration];
  const migration = migrations.find((each) => each.metadata.uid === uid);
  if (uid === undefined || migration === undefined || !isUnderWay(migration) || pod === undefined) return [];
  return (migration.spec.targetClaims ?? []).flatMap(({ disk, claimName: nextClaimName }) => {
    const before = known.find(({ name }) => name === disk);
    const claimName = claimOfPod(pod, disk);
    if (claimName === undefined || before?.migrationUID === uid) return [];
    // One that was moved before is still to be had under the name that the spec has for it by now, be it the former one's.
    const specClaimName = claimNamedBySpec(vm, disk) ?? claimName;
    return [{ name: disk, specClaimName, claimName, nextClaimName, migrationUID: uid }];
  });
}
