import type { V1PersistentVolume, V1StorageClass } from "@kubernetes/client-node";
import type { Wire } from "../../../operator/src/runtime/wire.ts";

export type StorageClass = Wire<V1StorageClass>;
export type PersistentVolume = Wire<V1PersistentVolume>;

/** Provisioners whose documentation promises volumes that several nodes can have at once. */
const SHARING: ReadonlySet<string> = new Set([
  "cephfs.csi.ceph.com",
  "rbd.csi.ceph.com",
  "driver.longhorn.io",
  "efs.csi.aws.com",
  "file.csi.azure.com",
  "filestore.csi.storage.gke.io",
  "nfs.csi.k8s.io",
  "smb.csi.k8s.io",
  "csi.trident.netapp.io",
]);

/** What volumes of a class are like, as "ReadWriteOnce Filesystem", by those that there are. */
export function modesOf(className: string, volumes: readonly PersistentVolume[]): string[] {
  const modes = volumes
    .filter(({ spec }) => spec?.storageClassName === className)
    .flatMap(({ spec }) => (spec?.accessModes ?? []).map((mode) => `${mode} ${spec?.volumeMode ?? "Filesystem"}`));
  return [...new Set(modes)].sort();
}

/** Classes whose volumes several nodes can have: some do, or their provisioner is known to make such. */
export function sharedClasses(classes: readonly StorageClass[], volumes: readonly PersistentVolume[]): string[] {
  return classes
    .map(({ metadata, provisioner }) => ({ name: metadata?.name ?? "", provisioner: withoutInstance(provisioner) }))
    .filter(
      ({ name, provisioner }) =>
        SHARING.has(provisioner) || modesOf(name, volumes).some((mode) => mode.startsWith("ReadWriteMany")),
    )
    .map(({ name }) => name);
}

/** Rook calls Ceph's drivers NAMESPACE.rbd.csi.ceph.com. */
function withoutInstance(provisioner: string): string {
  return provisioner.replace(/^[^.]+\.(?=(rbd|cephfs)\.csi\.ceph\.com$)/, "");
}
