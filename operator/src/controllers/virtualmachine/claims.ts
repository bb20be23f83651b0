import type { Disk } from "../../../../crds/src/disk.ts";
import { parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import type { KubernetesObject, PersistentVolumeClaim, Pod } from "../../runtime/wire.ts";
import { type ClaimImport, claimImportOf } from "../claim-import.ts";
import { VM_LABEL } from "./names.ts";

/** A PersistentVolumeClaim as far as decisions look at it. */
export interface ClaimFacts {
  readonly name: string;
  readonly phase: "Pending" | "Bound" | "Lost";
  readonly mode: "Block" | "Filesystem";
  readonly accessModes: readonly string[];
  readonly storageClassName: string | undefined;
  readonly requestBytes: number;
  /** Of the volume; undefined until the claim is bound. */
  readonly capacityBytes: number | undefined;
  readonly deleting: boolean;
  /** Where it begins with the disk of a VirtualMachineImage. */
  readonly import: ClaimImport | undefined;
  /** Machine whose template it was made from: its label. */
  readonly vmName: string | undefined;
  /** UIDs of its owners. */
  readonly owners: readonly string[];
}

/** Claims by name, of one namespace. */
export type Claims = Readonly<Record<string, ClaimFacts>>;

/** A claim as far as it is kept. */
export interface StoredClaim extends KubernetesObject {
  facts: ClaimFacts;
}

/** Keeps of a claim what decisions need. */
export function trimClaim(claim: PersistentVolumeClaim): StoredClaim {
  const {
    name = "",
    namespace,
    uid,
    resourceVersion,
    deletionTimestamp,
    labels,
    ownerReferences,
  } = claim.metadata ?? {};
  const { spec, status } = claim;
  const capacity = status?.capacity?.["storage"];
  return {
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
    facts: {
      name,
      phase: status?.phase === "Bound" || status?.phase === "Lost" ? status.phase : "Pending",
      mode: spec?.volumeMode === "Block" ? "Block" : "Filesystem",
      accessModes: spec?.accessModes ?? [],
      storageClassName: spec?.storageClassName,
      requestBytes: parseQuantity(spec?.resources?.requests?.["storage"] ?? 0),
      capacityBytes: capacity === undefined ? undefined : parseQuantity(capacity),
      deleting: deletionTimestamp !== undefined,
      import: claimImportOf(claim),
      vmName: labels?.[VM_LABEL],
      owners: (ownerReferences ?? []).map((owner) => owner.uid),
    },
  };
}

/** Name of the claim that a disk of the machine `vmName` is on; undefined for other disks. */
export function claimNameOf(disk: Disk, vmName: string): string | undefined {
  if (disk.volumeClaimTemplate !== undefined) return templateClaimName(disk.volumeClaimTemplate.name, vmName);
  return disk.persistentVolumeClaim?.claimName;
}

/** Name of the claim that is made from a template. */
export function templateClaimName(templateName: string, vmName: string): string {
  return `${templateName}-${vmName}`;
}

/** The disks of a machine that are on claims. */
export function claimDisks(vm: VirtualMachine): { readonly disk: Disk; readonly claimName: string }[] {
  return vm.spec.disks.flatMap((disk) => {
    const claimName = claimNameOf(disk, vm.metadata.name ?? "");
    return claimName === undefined ? [] : [{ disk, claimName }];
  });
}

/** Index values "namespace/claim" of a VirtualMachine: the claims that its disks name, are on or move to, and its templates'. */
export function claimKeysOfMachine(vm: VirtualMachine): string[] {
  const { namespace, name = "" } = vm.metadata;
  const ofTemplates = (vm.spec.volumeClaimTemplates ?? []).map(({ metadata }) =>
    templateClaimName(metadata.name, name),
  );
  const moved = (vm.status?.movedDisks ?? []).flatMap(({ claimName, nextClaimName }) =>
    nextClaimName === undefined ? [claimName] : [claimName, nextClaimName],
  );
  const names = new Set([...claimDisks(vm).map(({ claimName }) => claimName), ...moved, ...ofTemplates]);
  return [...names].map((claimName) => `${namespace}/${claimName}`);
}

/** Index values "namespace/claim" of a launcher pod, whatever its VirtualMachine says by now. */
export function claimKeysOfPod(pod: Pod): string[] {
  return claimVolumes(pod).map((claim) => `${pod.metadata?.namespace}/${claim.claimName}`);
}

/** Whether a pod has a claim so that it can write to it. */
export function writesTo(pod: Pod, claimName: string): boolean {
  return claimVolumes(pod).some((claim) => claim.claimName === claimName && claim.readOnly !== true);
}

/** Name of the pod's volume for a disk. */
export function volumeNameOf(diskName: string): string {
  return `disk-${diskName}`;
}

/** The claim that a pod has for a disk: its VirtualMachine may name another by now. */
export function claimOfPod(pod: Pod, diskName: string): string | undefined {
  const volume = pod.spec?.volumes?.find((candidate) => candidate.name === volumeNameOf(diskName));
  return volume?.persistentVolumeClaim?.claimName;
}

/** Whether a pod has the claim for that disk. */
export function isOnClaim(pod: Pod, diskName: string, claimName: string): boolean {
  return claimOfPod(pod, diskName) === claimName;
}

function claimVolumes(pod: Pod) {
  return (pod.spec?.volumes ?? []).flatMap((volume) => volume.persistentVolumeClaim ?? []);
}

const SECTOR_BYTES = 512;
/** Largest disk that a launcher takes. */
const DISK_MAX_BYTES = 2 ** 50;

/** Size of the disk on a claim: what the volume has, or what is asked for until there is one; whole sectors. */
export function diskBytes(claim: ClaimFacts): number {
  const bytes = Math.min(claim.capacityBytes ?? claim.requestBytes, DISK_MAX_BYTES);
  return bytes - (bytes % SECTOR_BYTES);
}
