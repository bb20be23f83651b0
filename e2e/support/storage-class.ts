/** A StorageClass of volumes that somebody makes by hand, or that `provisioner` makes; a claim waits for who uses it. */
export function storageClass(name: string, provisioner = "kubernetes.io/no-provisioner", more: object = {}): object {
  return {
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: { name },
    provisioner,
    volumeBindingMode: "WaitForFirstConsumer",
    ...more,
  };
}
