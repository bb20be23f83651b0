import type { Resource } from "../../runtime/wire.ts";

/** The resource that this controller reconciles. */
export const virtualMachineMigrations: Resource = {
  group: "typevisor.io",
  version: "v1alpha1",
  plural: "virtualmachinemigrations",
  kind: "VirtualMachineMigration",
  namespaced: true,
};

/** Owns what this controller writes. */
export const FIELD_MANAGER = "typevisor-virtualmachinemigration";

/** Keeps an object that is being deleted until its migration is taken back, or over. */
export const FINALIZER = "typevisor.io/migration";
