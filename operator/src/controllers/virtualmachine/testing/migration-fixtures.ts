import type { VirtualMachineMigrationStatus } from "../../../../../crds/src/virtualmachinemigration.ts";
import type { Pod } from "../../../runtime/wire.ts";
import type { MigrationSettings } from "../../virtualmachinemigration/settings.ts";
import type { StoredMigration } from "../../virtualmachinemigration/stored.ts";
import { annotations } from "../names.ts";
import type { StoredVirtualMachine } from "../observe.ts";
import { at, POD_UID, podOf } from "./fixtures.ts";

export const migrationSettings: MigrationSettings = {
  ...{ perCluster: 5, perNode: 2, maxDowntimeMs: 300, deadlineSeconds: 3600, autoConverge: true, ttlSeconds: 86_400 },
};

export const MIGRATION_UID = "22222222-0000-4000-8000-000000000001";
export const TARGET_UID = "33333333-0000-4000-8000-000000000001";

/** A migration of the machine "web". */
export function migrationOf(
  status: VirtualMachineMigrationStatus | undefined,
  spec: Partial<StoredMigration["spec"]> = {},
): StoredMigration {
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachineMigration",
    metadata: { name: "move", namespace: "shop", uid: MIGRATION_UID, generation: 1, creationTimestamp: at(-60) },
    spec: { virtualMachineName: "web", priority: "User", ...spec },
    ...(status === undefined ? {} : { status }),
  };
}

/** The pod that the machine moves to from `POD_UID`. */
export function targetPodOf(vm: StoredVirtualMachine, stage: "running" | "unscheduled", tookOver = false): Pod {
  const pod = podOf(vm, stage);
  const marks = {
    ...pod.metadata?.annotations,
    [annotations.migration]: MIGRATION_UID,
    [annotations.migrationName]: "move",
    [annotations.takesOverFrom]: POD_UID,
    ...(tookOver ? { [annotations.tookOver]: at(0) } : {}),
  };
  const metadata = { ...pod.metadata, name: "vm2-web", uid: TARGET_UID, annotations: marks };
  const spec =
    stage === "unscheduled" ? pod.spec : { ...pod.spec, containers: pod.spec?.containers ?? [], nodeName: "node-2" };
  return { ...pod, metadata, ...(spec && { spec }) };
}
