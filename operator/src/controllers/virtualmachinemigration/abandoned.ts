import { GROUP_VERSION } from "../../../../crds/src/names.ts";
import type { VirtualMachineMigrationStatus } from "../../../../crds/src/virtualmachinemigration.ts";
import type { Pod } from "../../runtime/wire.ts";
import { type LauncherPods, notedDecision } from "../virtualmachine/launcher-pods.ts";
import { annotations, podNamesOf } from "../virtualmachine/names.ts";
import { isOver, type StoredMigration } from "./stored.ts";

/**
 * A migration whose object is gone, put together from the marks of the pod that it made; undefined where none is.
 * Nothing holds such an object: whoever deletes it, with its namespace or the whole installation, leaves two pods at most,
 * and these say all that it takes to get back to one, as if the object were there and being deleted.
 */
export function abandonedMove(
  machine: { readonly namespace: string; readonly name: string },
  pods: LauncherPods,
  migrations: readonly StoredMigration[],
): StoredMigration | undefined {
  const target = pods.incoming ?? (pods.left === undefined ? undefined : pods.pod);
  const marks = target?.metadata?.annotations ?? {};
  const uid = marks[annotations.migration];
  if (target === undefined || uid === undefined) return undefined;
  if (migrations.some((each) => each.metadata.uid === uid && !isOver(each))) return undefined;
  const since = target.metadata?.creationTimestamp ?? "";
  return {
    apiVersion: GROUP_VERSION,
    kind: "VirtualMachineMigration",
    metadata: {
      name: marks[annotations.migrationName] ?? uid,
      namespace: machine.namespace,
      uid,
      creationTimestamp: since,
      deletionTimestamp: since,
    },
    spec: { virtualMachineName: machine.name, priority: "User" },
    status: statusOf(machine.name, pods, target),
  };
}

/** Taken back, or brought to its end where it is too late for that. */
function statusOf(vmName: string, { pod, left }: LauncherPods, target: Pod): VirtualMachineMigrationStatus {
  const since = target.metadata?.creationTimestamp ?? "";
  const podUID = target.metadata?.annotations?.[annotations.takesOverFrom] ?? "";
  const source = [pod, left].find((each) => each?.metadata?.uid === podUID);
  const sourceName = podNamesOf(vmName).find((name) => name !== target.metadata?.name) ?? "";
  const decision = notedDecision(target);
  return {
    phase: "Cancelling",
    startedAt: since,
    conditions: [
      {
        type: "Ready",
        status: "False",
        reason: "MigrationCancelled",
        message: "The migration was deleted",
        lastTransitionTime: since,
        observedGeneration: 1,
      },
    ],
    source: { ...nodeOf(source), podName: sourceName, podUID },
    target: { ...nodeOf(target), podName: target.metadata?.name ?? "", podUID: target.metadata?.uid ?? "" },
    ...(decision === undefined ? {} : { handOver: { decision } }),
  };
}

function nodeOf(pod: Pod | undefined): { readonly node?: string } {
  return pod?.spec?.nodeName === undefined ? {} : { node: pod.spec.nodeName };
}

/** Its key in the work queue: no object has such a name. */
export function abandonedKey(machineKey: string): string {
  return `${machineKey}${ABANDONED}`;
}

/** The machine's key, of such a key alone. */
export function machineKeyOfAbandoned(key: string): string | undefined {
  return key.endsWith(ABANDONED) ? key.slice(0, -ABANDONED.length) : undefined;
}

const ABANDONED = " abandoned";
