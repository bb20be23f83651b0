import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { GuestSession } from "../support/guest-session.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { testGuest } from "../support/vm.ts";
import { closeQemuCluster, openQemuCluster } from "./qemu-cluster.ts";

const MIB = 2 ** 20;
const NAMESPACE = "storage";
const STORAGE_CLASS = "static";
const NODES = ["node1", "node2"] as const;
const NFS_SERVER = "172.30.0.11";
const DATA_DISK_BYTES = 2 ** 30;
/** Nodes are emulated where this machine's KVM is not fit for Linux. */
const START_TIMEOUT_MS = 300_000;

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

describe("volumes of two nodes", () => {
  let kubectl: Kubectl;
  let cluster: TestCluster;

  const apply = async ({ name, accessMode, volumeMode, storage, source, nodes }: Volume) => {
    const spec = { accessModes: [accessMode], volumeMode, storageClassName: STORAGE_CLASS };
    const hostname = { key: "kubernetes.io/hostname", operator: "In", values: nodes };
    await kubectl.apply({
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name },
      spec: {
        ...spec,
        ...source,
        capacity: { storage },
        persistentVolumeReclaimPolicy: "Retain",
        claimRef: { namespace: NAMESPACE, name },
        ...(nodes && { nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [hostname] }] } } }),
      },
    });
    await kubectl.apply({
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name },
      spec: { ...spec, resources: { requests: { storage } } },
    });
  };
  const start = (name: string, claimName: string, node: string) =>
    kubectl.apply(
      testGuest(name, {
        disks: [{ name: "data", persistentVolumeClaim: { claimName } }],
        template: { spec: { nodeSelector: { "kubernetes.io/hostname": node } } },
      }),
    );
  const runs = (name: string) => kubectl.waitFor("vm", name, "condition=Ready", START_TIMEOUT_MS);
  const drop = (name: string) => kubectl.run(["delete", "vm", name, "--timeout=120s"], { timeoutMs: 130_000 });
  const write = async (name: string, value: number) => {
    await using guest = await GuestSession.open(kubectl, name);
    await guest.writeSector(0, 7, value);
  };
  const read = async (name: string) => {
    await using guest = await GuestSession.open(kubectl, name);
    return { value: await guest.readSector(0, 7), ...(await guest.diskInfo(0)) };
  };

  beforeAll(async () => {
    cluster = await openQemuCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    await kubectl.apply({
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: STORAGE_CLASS },
      provisioner: "kubernetes.io/no-provisioner",
      volumeBindingMode: "WaitForFirstConsumer",
    });
    for (const volume of volumes) await apply(volume);
    await start("shared-1", "shared", "node1");
    await start("nfs-1", "nfs", "node1");
    await start("own-2", "own", "node2");
  }, 1_800_000);
  afterAll(closeQemuCluster, 200_000);

  it("a node's own block device, ReadWriteOnce, is a disk", async () => {
    await runs("own-2");
    await write("own-2", 4711);
    expect(await read("own-2")).toEqual({ value: 4711n, name: "data", sizeBytes: DATA_DISK_BYTES });
    await drop("own-2");
  });

  it("a block device of both, ReadWriteMany, has one machine at a time, and on each node the same content", async () => {
    await runs("shared-1");
    await write("shared-1", 4712);
    await start("shared-2", "shared", "node2");
    const refused = await kubectl.vmCondition("shared-2", "Ready", "False", "ClaimInUse");
    expect(refused.message).toContain("is in use by VirtualMachine shared-1");
    await drop("shared-1");
    await runs("shared-2");
    expect(await read("shared-2")).toEqual({ value: 4712n, name: "data", sizeBytes: DATA_DISK_BYTES });
  });

  it("a directory on NFS, ReadWriteMany, refuses a second machine by its lock, also through another claim", async () => {
    await runs("nfs-1");
    await write("nfs-1", 4713);
    await start("nfs-2", "same-nfs", "node2");
    await eventually("the launcher's refusal", START_TIMEOUT_MS, async () => {
      const vm = await kubectl.get("vm", "nfs-2");
      return vm?.status.conditions?.some(({ message }) => /in use by another virtual machine/.test(message ?? ""));
    });
    await drop("nfs-1");
    await runs("nfs-2");
    expect(await read("nfs-2")).toEqual({ value: 4713n, name: "data", sizeBytes: 64 * MIB });
  });
});
