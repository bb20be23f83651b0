import type { Pod } from "../../runtime/wire.ts";
import { annotations, podNamesOf } from "../virtualmachine/names.ts";
import { isFinished, podsOf, type World } from "../virtualmachine/observe.ts";
import type { Heard, Observation, PodRefusal, Side } from "./observation.ts";
import type { MigrationSettings } from "./settings.ts";
import { isOver, isUnderWay, machineKeyOf, type StoredMigration } from "./stored.ts";
import { disksWithoutTarget, targetClaimProblem } from "./target-claims.ts";
import { type Active, type Waiting, waitsFor } from "./turn.ts";

/** What one process knows beside the stores. */
export interface Memory {
  readonly heard: (podUID: string) => Heard | undefined;
  readonly refusal: PodRefusal | undefined;
  readonly sourceGoneAtMs: (podUID: string) => number | undefined;
  readonly progressWrittenAtMs: number;
  /** Migrations whose turn has come, and whose status does not say so yet. */
  readonly admitted: ReadonlyMap<string, Active>;
}

interface Context {
  readonly settings: MigrationSettings;
  readonly memory: Memory;
  readonly isAbandoned: boolean;
}

/** The world as it concerns one migration. */
export function observe(
  world: World,
  migration: StoredMigration,
  { settings, memory, isAbandoned }: Context,
): Observation {
  const vm = world.virtualMachines.get(machineKeyOf(migration));
  const named = podNamesOf(migration.spec.virtualMachineName).flatMap(
    (name) => world.pods.get(`${migration.metadata.namespace}/${name}`) ?? [],
  );
  const uid = migration.metadata.uid ?? "";
  const sourceUID = migration.status?.source?.podUID;
  const source = named.find((pod) => pod.metadata?.uid === sourceUID);
  const target = named.find((pod) => pod.metadata?.annotations?.[annotations.migration] === uid);
  const isGone = source === undefined || isFinished(source);
  const pods = vm === undefined ? undefined : podsOf(world, vm);
  const ofOther = [pods?.incoming, pods?.left].find((pod) => pod !== undefined && pod !== source && pod !== target);
  return {
    migration,
    isAbandoned,
    vm,
    current: pods?.pod,
    source: source && sideOf(source, world, memory),
    target: target && sideOf(target, world, memory),
    inTheWay: named.find((pod) => pod !== source && pod !== target),
    ofOther: ofOther?.metadata?.name,
    sourceGoneAtMs: isGone && sourceUID !== undefined ? memory.sourceGoneAtMs(sourceUID) : undefined,
    progressWrittenAtMs: memory.progressWrittenAtMs,
    waitsFor: waitsFor(uid, queueOf(world, memory.admitted), settings),
    nodes: [...world.nodes.values()].map(({ facts }) => facts),
    targetClaimProblem: targetClaimProblem(world, migration, vm, pods?.pod),
    disksWithoutTarget: vm === undefined ? [] : disksWithoutTarget(world, migration, vm),
    refusal: memory.refusal,
  };
}

function sideOf(pod: Pod, world: World, memory: Memory): Side {
  const nodeName = pod.spec?.nodeName;
  const node = nodeName === undefined ? undefined : (world.nodes.get(nodeName)?.facts ?? null);
  return { pod, node, heard: memory.heard(pod.metadata?.uid ?? "") };
}

/** Who has a place, and who waits for one. One that only waits for its old pod to end has given its place back. */
function queueOf(world: World, admitted: ReadonlyMap<string, Active>): { active: Active[]; waiting: Waiting[] } {
  const all = [...world.migrations.values()];
  const active = all.filter((each) => isUnderWay(each) && each.status?.phase !== "Finishing");
  const finishing = all.filter((each) => isUnderWay(each) && each.status?.phase === "Finishing");
  const busy = new Set(finishing.map(machineKeyOf));
  const waiting = all.filter(
    (each) => !isOver(each) && !isUnderWay(each) && each.metadata.deletionTimestamp === undefined,
  );
  return {
    active: [
      ...active.map((each) => ({ machine: machineKeyOf(each), node: each.status?.source?.node })),
      ...[...admitted].flatMap(([uid, place]) => (active.some(({ metadata }) => metadata.uid === uid) ? [] : place)),
    ],
    waiting: waiting
      .filter(({ metadata }) => !admitted.has(metadata.uid ?? ""))
      .map((each) => ({
        uid: each.metadata.uid ?? "",
        priority: each.spec.priority,
        createdAt: each.metadata.creationTimestamp ?? "",
        machine: machineKeyOf(each),
        node: busy.has(machineKeyOf(each)) ? undefined : nodeOf(world, each),
      })),
  };
}

/** Node of a machine that could move now. */
function nodeOf(world: World, migration: StoredMigration): string | undefined {
  const { status } = world.virtualMachines.get(machineKeyOf(migration)) ?? {};
  return status?.conditions?.find(({ type }) => type === "Running")?.status === "True" ? status.node : undefined;
}
