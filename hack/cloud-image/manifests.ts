export const MACHINE = "keeper";
export const IMAGE = "debian";
export const CLAIM = `root-${MACHINE}`;
/** Larger than the image, as claims are. */
export const DISK_BYTES = 2 ** 30;
export const publicKey =
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKTlL5IyCkE2H+KbpbF54LhR1TGBaddByS3+3XkspRUd keeper@example";

const STORAGE_CLASS = "imported";
const userData = `#cloud-config
# Other keys take an emulated processor long.
ssh_genkeytypes: [ed25519]
users:
- {name: keeper, ssh_authorized_keys: [${publicKey}]}
write_files:
- {path: /etc/from-the-seed, content: "written once\\n"}
`;

export interface ServedImage {
  readonly url: string;
  readonly sha256: string;
}

/** What a user writes for a machine whose disk is imported. */
export function manifests({ url, sha256 }: ServedImage, node: string): object[] {
  const dataSourceRef = { apiGroup: "typevisor.io", kind: "VirtualMachineImage", name: IMAGE };
  return [
    {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: STORAGE_CLASS },
      provisioner: "typevisor.io/import",
      parameters: { storageClassName: "local-path" },
      volumeBindingMode: "WaitForFirstConsumer",
    },
    {
      apiVersion: "typevisor.io/v1alpha1",
      kind: "VirtualMachineImage",
      metadata: { name: IMAGE },
      spec: { source: { http: { url, checksum: { sha256 } } } },
    },
    {
      apiVersion: "typevisor.io/v1alpha1",
      kind: "VirtualMachine",
      metadata: { name: MACHINE },
      spec: {
        memory: { size: "512Mi" },
        disks: [
          { name: "root", volumeClaimTemplate: { name: "root" } },
          { name: "seed", cloudInit: { userData } },
        ],
        volumeClaimTemplates: [
          {
            metadata: { name: "root" },
            spec: {
              storageClassName: STORAGE_CLASS,
              resources: { requests: { storage: String(DISK_BYTES) } },
              dataSourceRef,
            },
          },
        ],
        template: { spec: { nodeSelector: { "kubernetes.io/hostname": node } } },
      },
    },
  ];
}
