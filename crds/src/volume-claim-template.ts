import { z } from "zod";
import { dnsLabel, objectName, RESERVED_LABEL_PREFIX } from "./names.ts";
import { byteQuantity } from "./quantity.ts";
import { atomic, type Rule, withRules } from "./rules.ts";

/** Most templates of one machine: as many as it has disks. */
const TEMPLATES_MAX = 16;
const METADATA_MAX = 32;
/** Longest name of a template in characters, so that TEMPLATE-MACHINE is a name that Kubernetes takes everywhere. */
const TEMPLATE_NAME_MAX_LENGTH = 63;

const withoutReserved = (field: string, valueMaxLength: number, description: string) =>
  withRules(
    z.record(z.string(), z.string().max(valueMaxLength)).meta({ maxProperties: METADATA_MAX }).describe(description),
    {
      rule: `!self.exists(key, key.startsWith('${RESERVED_LABEL_PREFIX}'))`,
      message: `${field} under ${RESERVED_LABEL_PREFIX} are set by Typevisor; choose another prefix`,
    },
  ).exactOptional();

const templateMetadata = z.strictObject({
  name: dnsLabel(
    "name",
    TEMPLATE_NAME_MAX_LENGTH,
    "Name of the template. The claim is called NAME-MACHINE, and a disk uses it by volumeClaimTemplate.name.",
  ),
  labels: withoutReserved("labels", 63, "Labels of the claim."),
  annotations: withoutReserved("annotations", 4096, "Annotations of the claim."),
});

const dataSourceRef = z
  .strictObject({
    apiGroup: z.string().max(253).describe("API group of the source; none for core kinds.").exactOptional(),
    kind: z.string().min(1).max(63).describe("Kind of the source, e.g. VolumeSnapshot or PersistentVolumeClaim."),
    name: objectName("Name of the source in the namespace of the VirtualMachine."),
  })
  .describe("What the volume begins with, as in a PersistentVolumeClaim; an empty volume by default.");

const templateSpec = z.strictObject({
  accessModes: atomic(
    z
      .array(z.enum(["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod", "ReadOnlyMany"]))
      .min(1)
      .max(4)
      .describe("Access modes of the claim."),
  ).default(["ReadWriteOnce"]),
  storageClassName: z
    .string()
    .max(253)
    .describe("StorageClass of the claim; the cluster's default one when absent.")
    .exactOptional(),
  volumeMode: z
    .enum(["Filesystem", "Block"])
    .describe("Block: the disk is the volume's device. Filesystem: it is a file in the volume.")
    .default("Filesystem"),
  resources: z
    .strictObject({
      requests: z
        .strictObject({
          storage: byteQuantity(
            "storage",
            { minimum: "1Mi", maximum: "64Ti", stepBytes: 512 },
            "Size of the claim, e.g. 10Gi. It can grow, where the StorageClass allows it, and never shrinks.",
          ),
        })
        .describe("What is requested."),
    })
    .describe("Size of the claim."),
  dataSourceRef: dataSourceRef.exactOptional(),
});

const template = z.strictObject({
  metadata: templateMetadata.describe("Name, labels and annotations."),
  spec: templateSpec.describe("The claim, as in a PersistentVolumeClaim."),
});

export const volumeClaimTemplates = withRules(
  atomic(
    z
      .array(template)
      .max(TEMPLATES_MAX)
      .describe(
        "Claims that are made for the machine, as in a StatefulSet: NAME-MACHINE for each template, when the machine is started and its claim does not exist.",
      ),
  ),
  {
    rule: "self.all(template, self.filter(other, other.metadata.name == template.metadata.name).size() == 1)",
    message: "volumeClaimTemplates must have different names",
  },
);

export const retentionPolicy = z
  .strictObject({
    whenDeleted: z
      .enum(["Retain", "Delete"])
      .describe("What becomes of the claims when the VirtualMachine is deleted: they stay, or go with it.")
      .default("Retain"),
  })
  .describe("Life of the claims of volumeClaimTemplates, as in a StatefulSet.");

export const volumeClaimTemplateDisk = z
  .strictObject({ name: dnsLabel("name", TEMPLATE_NAME_MAX_LENGTH, "A template of spec.volumeClaimTemplates.") })
  .describe("A disk on the claim that is made from a template of spec.volumeClaimTemplates.");

/** Rules of the spec about its templates and the disks that use them. */
export const volumeClaimTemplateRules: readonly Rule[] = [
  {
    rule: "self.disks.all(disk, !has(disk.volumeClaimTemplate) || (has(self.volumeClaimTemplates) && self.volumeClaimTemplates.exists(template, template.metadata.name == disk.volumeClaimTemplate.name)))",
    message:
      "spec.disks names a template that spec.volumeClaimTemplates does not have: correct volumeClaimTemplate.name",
    fieldPath: ".disks",
  },
  {
    rule: "self.disks.all(disk, !has(disk.volumeClaimTemplate) || self.disks.filter(other, has(other.volumeClaimTemplate) && other.volumeClaimTemplate.name == disk.volumeClaimTemplate.name).size() == 1)",
    message: "spec.disks must not use one template twice: the guest would write over its own data",
    fieldPath: ".disks",
  },
  {
    rule: unchanged(
      "quantity(now.spec.resources.requests.storage).compareTo(quantity(was.spec.resources.requests.storage)) >= 0",
    ),
    message: "spec.volumeClaimTemplates: requests.storage must not become smaller, a claim never shrinks",
    fieldPath: ".volumeClaimTemplates",
  },
  {
    rule: unchanged(
      "now.spec.accessModes == was.spec.accessModes && now.spec.volumeMode == was.spec.volumeMode && has(now.spec.storageClassName) == has(was.spec.storageClassName) && (!has(now.spec.storageClassName) || now.spec.storageClassName == was.spec.storageClassName)",
    ),
    message:
      "spec.volumeClaimTemplates: of a template only requests.storage can change, since its claim is made once; use a template of another name",
    fieldPath: ".volumeClaimTemplates",
  },
];

/** CEL: `condition` about `was` and `now` holds for each template that was there before. */
function unchanged(condition: string): string {
  const bothHave = "has(self.volumeClaimTemplates) && has(oldSelf.volumeClaimTemplates)";
  return `!(${bothHave}) || oldSelf.volumeClaimTemplates.all(was, self.volumeClaimTemplates.all(now, now.metadata.name != was.metadata.name || (${condition})))`;
}

export type VolumeClaimTemplate = z.output<typeof template>;
