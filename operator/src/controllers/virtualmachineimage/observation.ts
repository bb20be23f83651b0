import type { VirtualMachineImage } from "../../../../crds/src/virtualmachineimage.ts";
import type { ImportProgress } from "../../../../launcher/api/import.ts";
import type { KubernetesObject, Pod } from "../../runtime/wire.ts";
import type { ClaimImport } from "../claim-import.ts";

/** A VirtualMachineImage as an object of a store. */
export type StoredImage = VirtualMachineImage & KubernetesObject;

/** A PersistentVolumeClaim as far as imports look at it. */
export interface ClaimFacts {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly phase: "Pending" | "Bound" | "Lost";
  readonly deleting: boolean;
  readonly volumeName: string | undefined;
  readonly importedVolume: string | undefined;
  readonly mode: "Block" | "Filesystem";
  readonly accessModes: readonly string[];
  readonly storageClassName: string | undefined;
  readonly requestBytes: number;
  readonly capacityBytes: number | undefined;
  readonly selectedNode: string | undefined;
  /** UID of the claim that owns this one. */
  readonly ownerUID: string | undefined;
  /** Undefined for claims that begin with something else. */
  readonly import: ClaimImport | undefined;
}

export interface StorageClassFacts {
  readonly name: string;
  readonly provisioner: string;
  readonly waitsForConsumer: boolean;
  /** Parameter `storageClassName`. */
  readonly backing: string | undefined;
}

/** All that a decision about one image is made from, besides the settings and the time. */
export interface Observation {
  /** Undefined where claims name an image that does not exist. */
  readonly image: StoredImage | undefined;
  /** Those that name the image. */
  readonly claims: readonly ClaimObservation[];
}

export interface ClaimObservation {
  readonly claim: ClaimFacts;
  readonly prime: ClaimFacts | undefined;
  readonly pod: Pod | undefined;
  /** What the importer said when it was last asked. */
  readonly progress: ImportProgress | undefined;
  readonly storage: Storage;
  /** The claim that is to be copied, where the image is one. */
  readonly source: ClaimFacts | undefined;
  /** Machines whose pods can write to it. */
  readonly sourceWriters: readonly string[];
}

/** Where the volume of a claim comes from. */
export type Storage =
  /** Volumes of class `backing`; `waits` until the claim has a consumer. */
  | { readonly kind: "usable"; readonly backing: StorageClassFacts; readonly waits: boolean }
  /** The claim could be given an empty volume by someone else. */
  | { readonly kind: "refused"; readonly message: string }
  | { readonly kind: "missing"; readonly message: string };
