import { z } from "zod";
import { imagePath, imageVolumeSource } from "./image.ts";
import { DISK_NAME_MAX_LENGTH, dnsLabel, objectName } from "./names.ts";
import { byteQuantity } from "./quantity.ts";
import { exactlyOneOf, withRules } from "./rules.ts";

/** Most disks of one machine: each takes a slot of the 32 on its PCI bus. */
const DISKS_MAX = 16;

const imageDisk = z
  .strictObject({
    ...imageVolumeSource.shape,
    path: imagePath(
      "path",
      "Disk file in the image. Default, the containerDisk convention: the only file in /disk.",
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
    "A disk that lasts: the device of a claim of mode Block, or the file disk.img (raw) in one of mode Filesystem.",
  );

const emptyDisk = z
  .strictObject({
    size: byteQuantity("size", { minimum: "1Mi", maximum: "64Ti", stepBytes: 512 }, "Size of the disk, e.g. 10Gi."),
  })
  .describe("A disk that begins empty and lives as long as the pod.");

const inlineDataMaxLength = 64 * 1024;
const secretRef = (what: string) =>
  z
    .strictObject({ name: objectName("Secret in the namespace of the VirtualMachine.") })
    .describe(`Secret whose key ${what} holds it.`)
    .exactOptional();

const cloudInitDisk = z
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
  .describe("A NoCloud seed for cloud-init, as a read-only ISO 9660 disk with the label cidata.");

const configMapDisk = z
  .strictObject({ name: objectName("ConfigMap in the namespace of the VirtualMachine.") })
  .describe("The keys of a ConfigMap as files of a read-only ISO 9660 disk.");

const secretDisk = z
  .strictObject({ secretName: objectName("Secret in the namespace of the VirtualMachine.") })
  .describe("The keys of a Secret as files of a read-only ISO 9660 disk.");

const sources = {
  image: imageDisk.exactOptional(),
  persistentVolumeClaim: persistentVolumeClaimDisk.exactOptional(),
  emptyDisk: emptyDisk.exactOptional(),
  cloudInit: cloudInitDisk.exactOptional(),
  configMap: configMapDisk.exactOptional(),
  secret: secretDisk.exactOptional(),
};

const disk = withRules(
  z.strictObject({
    name: dnsLabel(
      "name",
      DISK_NAME_MAX_LENGTH,
      `Name of the disk, unique in the machine, at most ${DISK_NAME_MAX_LENGTH} characters. The guest sees it as the disk's serial: /dev/disk/by-id/virtio-NAME.`,
    ),
    readOnly: z.boolean().describe("The guest cannot write to the disk.").default(false),
    ...sources,
  }),
  exactlyOneOf("a disk", Object.keys(sources)),
);

export const disks = z
  .array(disk)
  .max(DISKS_MAX)
  .describe("Disks in the order of the guest's PCI bus: the first is /dev/vda. Each has exactly one source.");

export type Disk = z.output<typeof disk>;
export type DiskSourceName = keyof typeof sources;
