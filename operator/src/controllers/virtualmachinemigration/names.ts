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

/** Of versions that kept an object until its migration was over, and so kept a namespace from going without them. It is taken away. */
export const FINALIZER = "typevisor.io/migration";
