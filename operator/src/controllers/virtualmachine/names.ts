import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import type { Resource } from "../../runtime/wire.ts";

/** The resource that this controller reconciles. */
export const virtualMachines: Resource = {
  group: "typevisor.io",
  version: "v1alpha1",
  plural: "virtualmachines",
  kind: "VirtualMachine",
  namespaced: true,
};

/** Owns what this controller writes. */
export const FIELD_MANAGER = "typevisor-virtualmachine";

/** On each launcher pod: the name of its VirtualMachine. */
export const VM_LABEL = "typevisor.io/vm";

/** On each attachment pod: the name of its VirtualMachine. */
export const ATTACHMENT_LABEL = "typevisor.io/attachment-of";

export const MANAGED_BY_LABEL = "app.kubernetes.io/managed-by";
export const MANAGED_BY = "typevisor";

export const annotations = {
  /** Digests of the fields that the pod was made from: see drift.ts. */
  startedWith: "typevisor.io/started-with",
  /** How often the machine had been started again when this pod was made. */
  restarts: "typevisor.io/restarts",
  /** When the certificate in the machine's Secret is to be renewed. */
  certificateRenewAt: "typevisor.io/certificate-renew-at",
  /** Keys of the labels that the pod has from its machine: see labels.ts. */
  labels: "typevisor.io/labels",
  /** When the pod last asked Multus for other networks than before: see interface-hot-plug.ts. */
  networksAskedAt: "typevisor.io/networks-asked-at",
  /** Which authorities the pod was told to trust. */
  trust: "typevisor.io/trust",
  /** On the pod that a machine moves to: UIDs of the migration and of the pod that it moves from, and when it took over. */
  migration: "typevisor.io/migration",
  takesOverFrom: "typevisor.io/takes-over-from",
  tookOver: "typevisor.io/took-over",
  /** There as well: the migration's name, and what was decided where the link broke. Its object may be gone before they are needed. */
  migrationName: "typevisor.io/migration-name",
  handOver: "typevisor.io/hand-over",
  /** On the pod that a machine stays in: UID of the migration that was to copy its disks to other claims, and has not. */
  stays: "typevisor.io/stays",
  /** On attachment pods: the disk's name, a digest of what it was made from, and the UID of the launcher's pod. */
  attachedDisk: "typevisor.io/attached-disk",
  attachedAs: "typevisor.io/attached-as",
  attachedTo: "typevisor.io/attached-to",
} as const;

export const LAUNCHER_CONTAINER = "launcher";

/** Paths in the launcher's container. */
export const paths = {
  machine: "/etc/typevisor/machine",
  bootImage: "/boot-image",
  /** Part of the launcher's image: see hack/images/firmware.ts. */
  firmware: "/usr/share/typevisor/CLOUDHV_EFI.fd",
  disks: "/disks",
  /** Block claims, a device node each. */
  devices: "/dev/typevisor",
  overlay: "/var/lib/typevisor/overlay",
  empty: "/var/lib/typevisor/empty",
  run: "/run/typevisor/launcher",
  terminationMessage: "/dev/termination-log",
} as const;

/** Identity of a VirtualMachine as the API server gives it. */
export interface Identity {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
}

/** Name, namespace and UID, which every object from the API server has. */
export function identityOf(vm: VirtualMachine): Identity {
  const { name, namespace, uid } = vm.metadata;
  if (name === undefined || namespace === undefined || uid === undefined) {
    throw new TypeError("a VirtualMachine from the API server has a name, a namespace and a UID");
  }
  return { name, namespace, uid };
}

/** The one pod that a VirtualMachine is started in: that its name is fixed is what keeps a second one from existing. */
export function podNameOf(vmName: string): string {
  return `vm-${vmName}`;
}

/** Names of the pods that a VirtualMachine can have: a machine that moves goes from one to the other. */
export function podNamesOf(vmName: string): readonly [string, string] {
  return [podNameOf(vmName), `vm2-${vmName}`];
}

/** The Secret with machine.json and certificates; part of the UID keeps it from meeting anyone else's. */
export function secretNameOf(identity: Identity): string {
  return `vm-${identity.name}-${identity.uid.slice(0, 8)}`;
}

/** "namespace/name" of each of those pods, as stores key them. */
export function podKeysOf({ namespace, name }: Identity): readonly string[] {
  return podNamesOf(name).map((podName) => `${namespace}/${podName}`);
}
