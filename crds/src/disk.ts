import { z } from "zod";
import { imagePath, imageVolumeSource } from "./image.ts";
import { DISK_NAME_MAX_LENGTH, dnsLabel, objectName } from "./names.ts";
import { byteQuantity } from "./quantity.ts";
import { exactlyOneOf, withRules } from "./rules.ts";
import { volumeClaimTemplateDisk } from "./volume-claim-template.ts";

/** Most disks of one machine: each takes a slot of the 32 on its PCI bus. */
const DISKS_MAX = 16;

const imageDisk = z
  .strictObject({
    ...imageVolumeSource.shape,
    path: imagePath(
      "path",
      "Disk file in the image. Default, the containerDisk convention: the only file in /disk.",
    ).exactOptional(),
    overlaySizeLimit: byteQuantity(
      "overlaySizeLimit",
      { minimum: "1Mi", maximum: "64Ti", stepBytes: 512 },
      "How much the guest may write beside the image. A guest that needs more is paused until this is raised, which a running machine takes without a restart, up to twice what it was started with. The chart has the default, launcher.overlaySizeLimit.",
    ).exactOptional(),
  })
  .describe(
    "A disk from an OCI image, pulled by the node as an image volume. The image stays as it is: what the guest writes lives as long as the pod.",
  );

const persistentVolumeClaimDisk = z
  .strictObject({
    claimName: objectName("PersistentVolumeClaim in the namespace of the VirtualMachine."),
  })
  .describe(
    "A disk that lasts: the device of a claim of mode Block, or the file disk.img (raw, made when missing, as large as the claim) in one of mode Filesystem. It grows with the claim. Two machines can have a claim at the same time only where both have it readOnly.",
  );

const emptyDisk = z
  .strictObject({
    size: byteQuantity("size", { minimum: "1Mi", maximum: "64Ti", stepBytes: 512 }, "Size of the disk, e.g. 10Gi."),
  })
  .describe(
    "A disk that begins empty and lives as long as the pod. It takes room on the node as the guest writes; set aside some with template.spec.resources.requests.ephemeral-storage.",
  );

const inlineDataMaxLength = 64 * 1024;
const secretRef = (what: string) =>
  z
    .strictObject({ name: objectName("Secret in the namespace of the VirtualMachine.") })
    .describe(`Secret whose key ${what} holds it.`)
    .exactOptional();

/** Rule of cloudInit: of two ways to give the same thing, one. */
const notBoth = (inline: string, secret: string) => ({
  rule: `!(has(self.${inline}) && has(self.${secret}))`,
  message: `cloudInit takes ${inline} or ${secret}, not both: remove one`,
  fieldPath: `.${secret}`,
});

const cloudInitDisk = withRules(
  z
    .strictObject({
      userData: z
        .string()
        .max(inlineDataMaxLength)
        .describe("User data for cloud-init, in plain sight; use userDataSecretRef for secrets.")
        .exactOptional(),
      userDataSecretRef: secretRef("userdata"),
      networkData: z
        .string()
        .max(inlineDataMaxLength)
        .describe("Network configuration for cloud-init, version 1 or 2.")
        .exactOptional(),
      networkDataSecretRef: secretRef("networkdata"),
    })
    .describe(
      "A NoCloud seed for cloud-init, as a read-only ISO 9660 disk with the label cidata. The instance ID is the VirtualMachine's UID, the host name its pod's.",
    ),
  notBoth("userData", "userDataSecretRef"),
  notBoth("networkData", "networkDataSecretRef"),
);

const configMapDisk = z
  .strictObject({ name: objectName("ConfigMap in the namespace of the VirtualMachine.") })
  .describe("The keys of a ConfigMap as files of a read-only ISO 9660 disk, as they are when the machine starts.");

const secretDisk = z
  .strictObject({ secretName: objectName("Secret in the namespace of the VirtualMachine.") })
  .describe("The keys of a Secret as files of a read-only ISO 9660 disk, as they are when the machine starts.");

const sources = {
  image: imageDisk.exactOptional(),
  persistentVolumeClaim: persistentVolumeClaimDisk.exactOptional(),
  volumeClaimTemplate: volumeClaimTemplateDisk.exactOptional(),
  emptyDisk: emptyDisk.exactOptional(),
  cloudInit: cloudInitDisk.exactOptional(),
  configMap: configMapDisk.exactOptional(),
  secret: secretDisk.exactOptional(),
};

const limits = withRules(
  z
    .strictObject({
      requestsPerSecond: z
        .int()
        .min(1)
        .max(1_000_000_000)
        .describe("Reads, writes and other requests together.")
        .exactOptional(),
      bytesPerSecond: byteQuantity(
        "bytesPerSecond",
        { minimum: "4Ki", maximum: "512Gi", stepBytes: 512 },
        "Bytes read and written together, e.g. 50Mi.",
      ).exactOptional(),
    })
    .describe("How much the guest may ask of the disk. Rates hold over tenths of a second; what is beyond waits."),
  {
    rule: "has(self.requestsPerSecond) || has(self.bytesPerSecond)",
    message: "limits needs requestsPerSecond, bytesPerSecond or both: without a limit, remove it",
  },
);

const disk = withRules(
  z.strictObject({
    name: dnsLabel(
      "name",
      DISK_NAME_MAX_LENGTH,
      `Name of the disk, unique in the machine, at most ${DISK_NAME_MAX_LENGTH} characters. The guest sees it as the disk's serial: /dev/disk/by-id/virtio-NAME.`,
    ),
    readOnly: z
      .boolean()
      .describe("The guest cannot write to the disk. Disks of cloudInit, configMap and secret are always read-only.")
      .default(false),
    limits: limits.exactOptional(),
    ...sources,
  }),
  exactlyOneOf("a disk", Object.keys(sources)),
  {
    rule: "!(has(self.emptyDisk) && self.readOnly)",
    message: "readOnly makes no sense with emptyDisk, which would stay empty for ever: remove readOnly",
    fieldPath: ".readOnly",
  },
);

const claimOf = (entry: string) => `has(${entry}.persistentVolumeClaim)`;
const sameClaim = "other.persistentVolumeClaim.claimName == disk.persistentVolumeClaim.claimName";

export const disks = withRules(
  z
    .array(disk)
    .max(DISKS_MAX)
    .describe("Disks in the order of the guest's PCI bus: the first is /dev/vda. Each has exactly one source."),
  {
    rule: `self.all(disk, !${claimOf("disk")} || self.filter(other, ${claimOf("other")} && ${sameClaim}).size() == 1)`,
    message: "disks must not name one PersistentVolumeClaim twice: the guest would write over its own data",
  },
);

export type Disk = z.output<typeof disk>;
export type DiskSourceName = keyof typeof sources;
