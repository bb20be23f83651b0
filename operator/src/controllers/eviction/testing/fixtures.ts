import type { VirtualMachineSpec } from "../../../../../crds/src/virtualmachine.ts";
import type { VirtualMachineMigrationStatus } from "../../../../../crds/src/virtualmachinemigration.ts";
import type { Pod } from "../../../runtime/wire.ts";
import type { StoredVirtualMachine } from "../../virtualmachine/observe.ts";
import { at, machine, POD_UID, podOf } from "../../virtualmachine/testing/fixtures.ts";
import type { StoredMigration } from "../../virtualmachinemigration/stored.ts";
import { EVICTED_POD_LABEL } from "../names.ts";

export type Strategy = VirtualMachineSpec["evictionStrategy"];

type Status = "True" | "False" | "Unknown";
const condition = (type: string, status: Status, reason: string, message: string) => ({
  type,
  status,
  reason,
  message,
  observedGeneration: 3,
  lastTransitionTime: at(-50),
});

/** A machine that runs in its pod, and that could move or not. */
export function runningMachine(evictionStrategy: Strategy, migratable: Status = "True"): StoredVirtualMachine {
  return {
    ...machine({ evictionStrategy }),
    status: {
      podUID: POD_UID,
      conditions: [
        condition("Running", "True", "Running", "The guest runs on node node-1"),
        condition("Migratable", migratable, "DiskNotMigratable", "Disk data is on claim web-data"),
      ],
    },
  };
}

export function launcherPod(vm: StoredVirtualMachine, change: (pod: Pod) => void = () => {}): Pod {
  const pod = structuredClone(podOf(vm, "running"));
  change(pod);
  return pod;
}

/** The n-th migration that an eviction of the pod brought about. */
export function drainMigration(
  attempt: number,
  status?: Partial<VirtualMachineMigrationStatus>,
  podUID: string = POD_UID,
): StoredMigration {
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachineMigration",
    metadata: {
      name: `drain-web-${podUID.slice(0, 8)}-${attempt}`,
      namespace: "shop",
      labels: { [EVICTED_POD_LABEL]: podUID },
      creationTimestamp: at(-100),
    },
    spec: { virtualMachineName: "web", priority: "Drain" },
    ...(status === undefined ? {} : { status }),
  };
}

export function failedMigration(attempt: number, endedSecondsAgo: number): StoredMigration {
  const conditions = [condition("Stalled", "True", "Unschedulable", "no node has room")];
  return drainMigration(attempt, { phase: "Failed", completedAt: at(-endedSecondsAgo), conditions });
}
