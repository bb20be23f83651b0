import type { VirtualMachineMigrationManifest } from "../../../../crds/src/virtualmachinemigration.ts";
import { formatTime } from "../../runtime/clock.ts";
import { controllerOf, type Pod } from "../../runtime/wire.ts";
import { ATTACHMENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, VM_LABEL } from "../virtualmachine/names.ts";
import { isFinished, type StoredVirtualMachine } from "../virtualmachine/observe.ts";
import { isOver, type StoredMigration } from "../virtualmachinemigration/stored.ts";
import { EVICTED_POD_LABEL } from "./names.ts";

/** All that is looked at when a pod is to be evicted. */
export interface EvictionFacts {
  /** Undefined where there is none of the name. */
  readonly pod: Pod | undefined;
  /** The VirtualMachine that the pod is of, or holds a disk for. */
  readonly vm: StoredVirtualMachine | undefined;
  /** All migrations of that machine. */
  readonly migrations: readonly StoredMigration[];
}

export type EvictionDecision =
  /** As with any pod. `warning` is told to who evicts. */
  | { readonly kind: "allow"; readonly warning?: string }
  /** Not now: to be tried again. */
  | { readonly kind: "refuse"; readonly message: string }
  /** Not now: the machine is moving. */
  | { readonly kind: "wait"; readonly message: string }
  /** Not now, and the machine is to move meanwhile. */
  | { readonly kind: "migrate"; readonly migration: VirtualMachineMigrationManifest; readonly message: string };

const FIRST_RETRY_MS = 20_000;
const LONGEST_RETRY_MS = 5 * 60_000;
/** Migrations that may fail before a machine that moves only where that is possible is stopped instead. */
const TRIES_WHERE_POSSIBLE = 3;

const allow: EvictionDecision = { kind: "allow" };
const refuse = (message: string): EvictionDecision => ({ kind: "refuse", message });

/**
 * What becomes of an eviction. Level-triggered: nothing is remembered but the migrations that there are, so that a drain
 * that is given up leaves nothing behind that would go on.
 */
export function decideEviction({ pod, vm, migrations }: EvictionFacts, nowMs: number): EvictionDecision {
  if (pod === undefined || vm === undefined || !isOf(pod, vm)) return allow;
  const isEnding = pod.metadata?.deletionTimestamp !== undefined || isFinished(pod);
  const { evictionStrategy } = vm.spec;
  if (isEnding || vm.metadata.deletionTimestamp !== undefined || evictionStrategy === "None") return allow;
  const of = `VirtualMachine ${vm.metadata.name}`;
  const active = migrations.find((each) => !isOver(each));
  if (active !== undefined) return { kind: "wait", message: whileMoving(of, pod, active) };
  const movable = vm.status?.conditions?.find(({ type }) => type === "Migratable");
  if (pod.metadata?.labels?.[ATTACHMENT_LABEL] !== undefined) {
    const why = movable?.status === "False" ? `, and that cannot move: ${movable.message}` : "";
    return refuse(`this pod holds a disk of ${of}, and goes when the machine does${why}`);
  }
  // Its guest has not run: there is nothing to move, and it starts elsewhere.
  if (pod.status?.phase === "Pending") return allow;
  if (vm.status?.podUID !== pod.metadata?.uid || movable === undefined || movable.status === "Unknown") {
    return refuse(`it is not known yet whether ${of} can move`);
  }
  const mayStop = evictionStrategy === "LiveMigrateIfPossible";
  if (movable.status === "False") {
    const why = `${of} cannot move: ${movable.message} (${movable.reason})`;
    return mayStop
      ? { kind: "allow", warning: `${why}. It is stopped, as its evictionStrategy allows` }
      : refuse(`${why}. To have it stopped, set its spec.evictionStrategy to None, or spec.runStrategy to Halted`);
  }
  return move(vm, pod, { migrations, mayStop, nowMs });
}

/** Labels can be anybody's: the owner is what counts. */
function isOf(pod: Pod, vm: StoredVirtualMachine): boolean {
  const owner = controllerOf(pod);
  return owner?.kind === "VirtualMachine" && owner.uid === vm.metadata.uid;
}

/** Name of the VirtualMachine that a pod is of by its labels; undefined for a pod of anyone else. */
export function machineNameOf(pod: Pod): string | undefined {
  const { labels } = pod.metadata ?? {};
  if (labels?.[MANAGED_BY_LABEL] !== MANAGED_BY) return undefined;
  return labels[VM_LABEL] ?? labels[ATTACHMENT_LABEL];
}

function whileMoving(of: string, pod: Pod, { metadata, status }: StoredMigration): string {
  const name = `VirtualMachineMigration ${metadata.name}`;
  const phase = status?.phase ?? "Pending";
  const said = status?.conditions?.find(({ type }) => type === "Reconciling")?.message;
  const words = said === undefined || said === "" ? phase : `${phase}: ${said}`;
  const isTarget = status?.target?.podUID !== undefined && status.target.podUID === pod.metadata?.uid;
  return isTarget
    ? `${name} moves ${of} into this pod (${words}); it can move on after that. To take it back, delete the migration`
    : `${of} is moving to another node by ${name} (${words})`;
}

function move(
  vm: StoredVirtualMachine,
  pod: Pod,
  context: { readonly migrations: readonly StoredMigration[]; readonly mayStop: boolean; readonly nowMs: number },
): EvictionDecision {
  const of = `VirtualMachine ${vm.metadata.name}`;
  const uid = pod.metadata?.uid ?? "";
  const ours = context.migrations.filter(({ metadata }) => metadata.labels?.[EVICTED_POD_LABEL] === uid);
  const failed = ours.filter(({ status }) => status?.phase === "Failed").toSorted((a, b) => endOf(a) - endOf(b));
  const last = failed.at(-1);
  if (last !== undefined) {
    const why = last.status?.conditions?.find(({ type }) => type === "Stalled")?.message ?? "it does not say why";
    const failure = `VirtualMachineMigration ${last.metadata.name} of ${of} failed: ${why}`;
    if (context.mayStop && failed.length >= TRIES_WHERE_POSSIBLE) {
      return { kind: "allow", warning: `${failure}. The machine is stopped, as its evictionStrategy allows` };
    }
    const againAtMs = endOf(last) + Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (failed.length - 1));
    if (context.nowMs < againAtMs) return refuse(`${failure}; the next one may begin at ${formatTime(againAtMs)}`);
  }
  const migration = migrationFor(vm, uid, 1 + Math.max(0, ...ours.map(attemptOf)));
  const name = `VirtualMachineMigration ${migration.metadata.name}`;
  return { kind: "migrate", migration, message: `${of} moves to another node by ${name}; this pod ends when it has` };
}

/**
 * Two replicas that are asked at the same time, and one that is asked twice, come to the same name, and only one of them
 * creates it.
 */
function migrationFor(vm: StoredVirtualMachine, podUID: string, attempt: number): VirtualMachineMigrationManifest {
  const { name = "", namespace = "", uid = "" } = vm.metadata;
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachineMigration",
    metadata: {
      name: `drain-${name}-${podUID.slice(0, 8)}-${attempt}`,
      namespace,
      labels: { [MANAGED_BY_LABEL]: MANAGED_BY, [EVICTED_POD_LABEL]: podUID },
      ownerReferences: [{ apiVersion: "typevisor.io/v1alpha1", kind: "VirtualMachine", name, uid }],
    },
    spec: { virtualMachineName: name, priority: "Drain" },
  };
}

function attemptOf({ metadata }: StoredMigration): number {
  return Number(/-(\d{1,6})$/.exec(metadata.name ?? "")?.[1] ?? 0);
}

function endOf({ metadata, status }: StoredMigration): number {
  const atMs = Date.parse(status?.completedAt ?? metadata.creationTimestamp ?? "");
  return Number.isNaN(atMs) ? 0 : atMs;
}
