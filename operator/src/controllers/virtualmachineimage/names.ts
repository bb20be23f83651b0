import type { Resource } from "../../runtime/wire.ts";

/** The resource that this controller reconciles. */
export const virtualMachineImages: Resource = {
  group: "typevisor.io",
  version: "v1alpha1",
  plural: "virtualmachineimages",
  kind: "VirtualMachineImage",
  namespaced: true,
};

/** Owns what this controller writes. */
export const FIELD_MANAGER = "typevisor-virtualmachineimage";

/** On each pod and claim of an import: the UID of the claim that it is for. */
export const IMPORT_LABEL = "typevisor.io/import";

export const IMPORTER_CONTAINER = "importer";

/**
 * Provisioner of StorageClasses whose claims are made by imports alone, on volumes of the class that the parameter
 * `storageClassName` names: for storage that ignores dataSourceRef.
 */
export const IMPORT_PROVISIONER = "typevisor.io/import";
/** Of StorageClasses for volumes that somebody makes by hand. */
export const NO_PROVISIONER = "kubernetes.io/no-provisioner";

export const annotations = {
  /** Which image the volume was filled from: on the volume (PersistentVolume). */
  populatedFrom: "typevisor.io/populated-from",
  /** Digest of the source that a pod imports. */
  source: "typevisor.io/import-source",
  /** Digest of the template that a pod is made from. */
  template: "typevisor.io/import-template",
  /** Kubernetes' own: where the first consumer of a claim will be. */
  selectedNode: "volume.kubernetes.io/selected-node",
} as const;

/** Paths in the importer's container. */
export const paths = {
  target: "/target",
  targetDevice: "/dev/typevisor/target",
  source: "/source",
  sourceDevice: "/dev/typevisor/source",
  image: "/image",
  credentials: "/etc/typevisor/credentials",
  authorities: "/etc/typevisor/authorities",
  scratch: "/scratch",
  terminationMessage: "/dev/termination-log",
} as const;

/** The claim that is filled; its volume becomes that of the claim with the UID. */
export function primeNameOf(claimUID: string): string {
  return `prime-${claimUID}`;
}

export function podNameOf(claimUID: string): string {
  return `import-${claimUID}`;
}
