import { parseQuantity } from "../../../../crds/src/quantity.ts";
import type { ImportProgress } from "../../../../launcher/api/import.ts";
import { Store } from "../../runtime/store.ts";
import type { KubernetesObject, PersistentVolumeClaim, Pod, StorageClass } from "../../runtime/wire.ts";
import { claimImportOf, importAnnotations } from "../claim-import.ts";
import { annotations, IMPORT_LABEL, IMPORT_PROVISIONER, NO_PROVISIONER, podNameOf, primeNameOf } from "./names.ts";
import type { ClaimFacts, Observation, Storage, StorageClassFacts, StoredImage } from "./observation.ts";

export interface StoredClaim extends KubernetesObject {
  facts: ClaimFacts;
}
export interface StoredClass extends KubernetesObject {
  facts: StorageClassFacts;
}

/** What the controller sees of the cluster. */
export interface World {
  readonly images: Store<StoredImage>;
  readonly claims: Store<StoredClaim>;
  readonly pods: Store<Pod>;
  readonly storageClasses: Store<StoredClass>;
  readonly csiDrivers: Store<KubernetesObject>;
}

const IMAGE_INDEX = "image";
const UID_INDEX = "uid";

export function createWorld(): World {
  return {
    images: new Store(),
    claims: new Store({
      [IMAGE_INDEX]: ({ facts }) => imageKeysOf(facts),
      [UID_INDEX]: ({ facts }) => [facts.uid],
    }),
    pods: new Store(),
    storageClasses: new Store(),
    csiDrivers: new Store(),
  };
}

function imageKeysOf(facts: ClaimFacts): string[] {
  return facts.import === undefined ? [] : [`${facts.namespace}/${facts.import.imageName}`];
}

/** Keys of the images that a claim is of interest to: its own, that of the claim it is made for, those that copy it. */
export function keysOfClaim(world: World, { facts }: StoredClaim): string[] {
  const owner = facts.ownerUID === undefined ? [] : world.claims.byIndex(UID_INDEX, facts.ownerUID);
  const copies = [...world.images.values()].filter(
    ({ metadata, spec }) =>
      metadata.namespace === facts.namespace && spec.source.persistentVolumeClaim?.name === facts.name,
  );
  return [
    ...imageKeysOf(facts),
    ...owner.flatMap((claim) => imageKeysOf(claim.facts)),
    ...copies.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`),
  ];
}

export function keysOfPod(world: World, pod: Pod): string[] {
  const claimUID = pod.metadata?.labels?.[IMPORT_LABEL] ?? "";
  return world.claims.byIndex(UID_INDEX, claimUID).flatMap((claim) => imageKeysOf(claim.facts));
}

/** Keys of all images, those that only claims know of included. */
export function allKeys(world: World): Set<string> {
  const ofImages = [...world.images.values()].map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
  return new Set([...ofImages, ...[...world.claims.values()].flatMap(({ facts }) => imageKeysOf(facts))]);
}

export function trimClaim(claim: PersistentVolumeClaim): StoredClaim {
  const {
    name = "",
    namespace = "",
    uid = "",
    resourceVersion,
    deletionTimestamp,
    ownerReferences,
  } = claim.metadata ?? {};
  const { spec, status } = claim;
  const marks = claim.metadata?.annotations ?? {};
  const capacity = status?.capacity?.["storage"];
  return {
    metadata: { name, namespace, uid, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
    facts: {
      name,
      namespace,
      uid,
      phase: status?.phase === "Bound" || status?.phase === "Lost" ? status.phase : "Pending",
      deleting: deletionTimestamp !== undefined,
      volumeName: spec?.volumeName,
      importedVolume: marks[importAnnotations.volume],
      mode: spec?.volumeMode === "Block" ? "Block" : "Filesystem",
      accessModes: spec?.accessModes ?? [],
      storageClassName: spec?.storageClassName,
      requestBytes: parseQuantity(spec?.resources?.requests?.["storage"] ?? 0),
      capacityBytes: capacity === undefined ? undefined : parseQuantity(capacity),
      selectedNode: marks[annotations.selectedNode],
      ownerUID: ownerReferences?.find((owner) => owner.kind === "PersistentVolumeClaim")?.uid,
      import: claimImportOf(claim),
    },
  };
}

export function trimClass(storageClass: StorageClass): StoredClass {
  const { name = "", uid, resourceVersion } = storageClass.metadata ?? {};
  return {
    metadata: {
      name,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
    facts: {
      name,
      provisioner: storageClass.provisioner,
      waitsForConsumer: storageClass.volumeBindingMode === "WaitForFirstConsumer",
      backing: storageClass.parameters?.["storageClassName"],
    },
  };
}

export function trimDriver({ metadata = {} }: KubernetesObject): KubernetesObject {
  const { name = "", uid, resourceVersion } = metadata;
  return {
    metadata: {
      name,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
  };
}

export function trimPod(pod: Pod): Pod {
  const { managedFields: _, ...metadata } = pod.metadata ?? {};
  return { ...pod, metadata };
}

export interface Surroundings {
  readonly progressOf: (podUID: string) => ImportProgress | undefined;
  /** Machines whose pods can write to a claim ("namespace/name"). */
  readonly writersOf: WritersOf;
}

export type WritersOf = (claimKey: string) => readonly string[];

/** The world as it concerns the image `key` ("namespace/name"). */
export function observe(world: World, key: string, { progressOf, writersOf }: Surroundings): Observation {
  const image = world.images.get(key);
  const sourceName = image?.spec.source.persistentVolumeClaim?.name;
  const claims = world.claims.byIndex(IMAGE_INDEX, key).map(({ facts }) => {
    const { namespace, uid } = facts;
    const pod = world.pods.get(`${namespace}/${podNameOf(uid)}`);
    return {
      claim: facts,
      prime: world.claims.get(`${namespace}/${primeNameOf(uid)}`)?.facts,
      pod,
      progress: pod?.metadata?.uid === undefined ? undefined : progressOf(pod.metadata.uid),
      storage: storageOf(world, facts),
      source: sourceName === undefined ? undefined : world.claims.get(`${namespace}/${sourceName}`)?.facts,
      sourceWriters: sourceName === undefined ? [] : writersOf(`${namespace}/${sourceName}`),
    };
  });
  return { image, claims: claims.sort((a, b) => (a.claim.name < b.claim.name ? -1 : 1)) };
}

function storageOf(world: World, { name, storageClassName }: ClaimFacts): Storage {
  const help = `name a StorageClass of provisioner ${IMPORT_PROVISIONER} in the claim (docs/import.md)`;
  if (storageClassName === undefined || storageClassName === "") {
    const message = `PersistentVolumeClaim ${name} has no StorageClass, so that it could be bound to any volume; ${help}`;
    return { kind: "refused", message };
  }
  const own = world.storageClasses.get(storageClassName)?.facts;
  if (own === undefined) return { kind: "missing", message: `StorageClass ${storageClassName} does not exist` };
  if (own.provisioner === IMPORT_PROVISIONER) {
    if (own.backing === undefined) {
      const message = `StorageClass ${own.name} needs the parameter storageClassName: the class that volumes come from`;
      return { kind: "refused", message };
    }
    const backing = world.storageClasses.get(own.backing)?.facts;
    if (backing === undefined) return { kind: "missing", message: `StorageClass ${own.backing} does not exist` };
    return { kind: "usable", backing, waits: own.waitsForConsumer };
  }
  if (own.provisioner !== NO_PROVISIONER && world.csiDrivers.get(own.provisioner) !== undefined)
    return { kind: "usable", backing: own, waits: own.waitsForConsumer };
  const message = `the volumes of StorageClass ${own.name} (${own.provisioner}) come without regard to dataSourceRef, and the claim would begin empty; ${help}`;
  return { kind: "refused", message };
}
