import type { Kubectl } from "../support/kubectl.ts";
import { storageClass } from "../support/storage-class.ts";

export const NODES = ["node1", "node2"] as const;
export const NAMESPACE = "two-nodes";
const STORAGE_CLASS = "static";
const NFS_SERVER = "172.30.0.11";

interface Volume {
  readonly name: string;
  readonly accessMode: "ReadWriteOnce" | "ReadWriteMany";
  readonly volumeMode: "Filesystem" | "Block";
  readonly storage: string;
  /** Of a PersistentVolume's spec. */
  readonly source: object;
  readonly nodes?: readonly string[];
}

/** README.md of hack/dev-cluster says which disks the nodes have. */
const volumes: readonly Volume[] = [
  {
    name: "own",
    accessMode: "ReadWriteOnce",
    volumeMode: "Block",
    storage: "1Gi",
    source: { local: { path: "/dev/vdb" } },
    nodes: ["node2"],
  },
  {
    name: "shared",
    accessMode: "ReadWriteMany",
    volumeMode: "Block",
    storage: "1Gi",
    source: { local: { path: "/dev/vdc" } },
    nodes: NODES,
  },
  // Two claims on one directory, which the cluster cannot know.
  ...["nfs", "same-nfs"].map((name) => ({
    name,
    accessMode: "ReadWriteMany" as const,
    volumeMode: "Filesystem" as const,
    storage: "64Mi",
    source: { nfs: { server: NFS_SERVER, path: "/" }, mountOptions: ["nfsvers=4.2"] },
  })),
];

/** Claims of those names in its namespace, all unless some are named, with what is behind them. */
export async function applyVolumes(kubectl: Kubectl, names = volumes.map(({ name }) => name)): Promise<void> {
  await kubectl.apply(storageClass(STORAGE_CLASS));
  const items = volumes
    .filter(({ name }) => names.includes(name))
    .flatMap((one) => manifestsOf(one, kubectl.namespace));
  await kubectl.apply({ apiVersion: "v1", kind: "List", items });
}

function manifestsOf({ name, accessMode, volumeMode, storage, source, nodes }: Volume, namespace: string): object[] {
  const spec = { accessModes: [accessMode], volumeMode, storageClassName: STORAGE_CLASS };
  const hostname = { key: "kubernetes.io/hostname", operator: "In", values: nodes };
  return [
    {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name },
      spec: {
        ...spec,
        ...source,
        capacity: { storage },
        persistentVolumeReclaimPolicy: "Retain",
        claimRef: { namespace, name },
        ...(nodes && { nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [hostname] }] } } }),
      },
    },
    {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name },
      spec: { ...spec, resources: { requests: { storage } } },
    },
  ];
}
