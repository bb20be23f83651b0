import { finalMigrationPhases, type VirtualMachineMigration } from "../../../../crds/src/virtualmachinemigration.ts";
import type { KubernetesObject } from "../../runtime/wire.ts";

/** A VirtualMachineMigration as an object of a store. */
export type StoredMigration = VirtualMachineMigration & KubernetesObject;

/** Key of the VirtualMachine that it moves. */
export function machineKeyOf({ metadata, spec }: StoredMigration): string {
  return `${metadata.namespace}/${spec.virtualMachineName}`;
}

/** It will never do anything more. */
export function isOver({ status }: StoredMigration): boolean {
  return finalMigrationPhases.has(status?.phase ?? "");
}

/** Its turn has come, and it is not over. */
export function isUnderWay(migration: StoredMigration): boolean {
  return migration.status?.startedAt !== undefined && !isOver(migration);
}

/** Drops the bookkeeping of server-side apply. */
export function trimMigration(migration: StoredMigration): StoredMigration {
  const { managedFields: _, ...metadata } = migration.metadata;
  return { ...migration, metadata };
}
