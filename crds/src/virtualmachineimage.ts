import { z } from "zod";
import { condition, observedGeneration } from "./condition.ts";
import { imagePath, imageVolumeSource } from "./image.ts";
import { GROUP_VERSION, objectName } from "./names.ts";
import { objectMeta } from "./object-meta.ts";
import { importerTemplate } from "./pod-template.ts";
import { anyQuantity } from "./quantity.ts";
import { exactlyOneOf, listMap, withRules } from "./rules.ts";

const hex = (algorithm: string, length: number) =>
  withRules(
    z
      .string()
      .min(length)
      .max(length)
      .describe(`The file's ${algorithm} checksum as the server has it: ${length} hexadecimal digits.`),
    { rule: "self.matches('^[0-9a-fA-F]+$')", message: `${algorithm} must be ${length} hexadecimal digits` },
  ).exactOptional();

const checksum = withRules(
  z
    .strictObject({ sha256: hex("sha256", 64), sha512: hex("sha512", 128) })
    .describe("Checksum of the file as the server has it, compressed or not. Without one, what comes is believed."),
  exactlyOneOf("checksum", ["sha256", "sha512"]),
);

const localRef = (kind: string, what: string) =>
  z
    .strictObject({ name: objectName(`${kind} in the namespace of the VirtualMachineImage.`) })
    .describe(what)
    .exactOptional();

const http = z
  .strictObject({
    url: withRules(
      z.string().min(1).max(2048).describe("Where the file is, by http:// or https://. Redirects are followed."),
      {
        rule: "isURL(self) && (url(self).getScheme() == 'http' || url(self).getScheme() == 'https') && url(self).getHost() != ''",
        message: "url must be a URL such as https://cloud.example/debian.qcow2",
      },
      {
        rule: "!self.matches('^[a-z]+://[^/]*@')",
        message:
          "url must not hold user or password, for everyone to read: put them into a Secret and name it in secretRef",
      },
    ),
    checksum: checksum.exactOptional(),
    secretRef: localRef(
      "Secret",
      'Secret for the server: keys username and password, or token (Bearer), and headers (a line "Name: value" each). No server that it redirects to gets them.',
    ),
    caConfigMapRef: localRef(
      "ConfigMap",
      "ConfigMap whose keys are PEM certificates of authorities that are trusted beside the well-known ones.",
    ),
  })
  .describe("A file of a server: raw or qcow2 by its first bytes, as it is or compressed with gzip, xz or zstd.");

const image = z
  .strictObject({
    ...imageVolumeSource.shape,
    path: imagePath(
      "path",
      "Disk file in the image. Default, the containerDisk convention: the only file in /disk.",
    ).exactOptional(),
  })
  .describe("The disk of an OCI image, raw or qcow2, which the node pulls as an image volume.");

const claim = z
  .strictObject({ name: objectName("PersistentVolumeClaim in the namespace of the VirtualMachineImage.") })
  .describe("The disk of another claim, as it is. No machine may run on it meanwhile.");

const sources = {
  http: http.exactOptional(),
  image: image.exactOptional(),
  persistentVolumeClaim: claim.exactOptional(),
};

const spec = withRules(
  z.strictObject({
    source: withRules(
      z.strictObject(sources).describe("Where the disk comes from: exactly one."),
      exactlyOneOf("source", Object.keys(sources)),
    ),
    template: importerTemplate.exactOptional(),
  }),
);

const count = (description: string) => z.int().min(0).describe(description).exactOptional();
const text = (description: string) => z.string().describe(description).exactOptional();
const time = (description: string) => z.string().meta({ format: "date-time" }).describe(description).exactOptional();

/** States of one import. */
export const importPhases = {
  Waiting: "It waits for something before it: the claim's first consumer, the volume, a node, an image.",
  Importing: "The disk is being written.",
  Retrying: "It failed and is tried again after a delay.",
  Failed: "It failed in a way that comes again: something has to be changed.",
  Finishing: "All is written; the volume is being handed over to the claim.",
  Completed: "The claim has its volume.",
} as const satisfies Record<string, string>;

export type ImportPhase = keyof typeof importPhases;

/** Most imports that the status tells of: those under way first, then the latest. */
export const IMPORTS_MAX = 64;

const importEntry = z.strictObject({
  claimName: z.string().describe("PersistentVolumeClaim that the disk is imported into."),
  claimUID: text("Its UID."),
  phase: z
    .enum(Object.keys(importPhases) as [ImportPhase, ...ImportPhase[]])
    .describe("How far it is.")
    .exactOptional(),
  progress: text("Percent of the source's bytes, e.g. 42%."),
  transferred: anyQuantity("Bytes of the source so far.").exactOptional(),
  rate: text("Bytes a second over the last few seconds, e.g. 120Mi/s."),
  reason: text("Why it is in this phase, in one word."),
  message: text("Why, for a person, and what to do next."),
  attempts: count("How often it failed so far."),
  failedPodUID: text("UID of the pod that failed last, so that a failure is counted once."),
  nextAttemptTime: time("When it is tried again."),
  completedAt: time("When the claim had its volume."),
});

const conditions = listMap(z.array(condition).max(8), "type").describe(
  "Ready: the source can be used, and no import of it fails. Reconciling: an import is under way. Stalled: an import fails until someone changes something.",
);

const status = z.strictObject({
  observedGeneration,
  conditions: conditions.exactOptional(),
  format: text("What the source turned out to be, e.g. qcow2, or raw in xz."),
  sourceSize: anyQuantity("Size of the source's file.").exactOptional(),
  virtualSize: anyQuantity("Size of the disk: a claim must be at least as large.").exactOptional(),
  progress: text("Of the import that is least far, e.g. 42% 120Mi/s."),
  imports: listMap(z.array(importEntry).max(IMPORTS_MAX), "claimName")
    .describe("Imports under way, and the latest that ended.")
    .exactOptional(),
});

export const virtualMachineImage = z
  .strictObject({
    apiVersion: z.literal(GROUP_VERSION),
    kind: z.literal("VirtualMachineImage"),
    metadata: objectMeta,
    spec: spec.describe("Where the disk comes from. Only users write here."),
    status: status.describe("What became of it. Only Typevisor writes here.").exactOptional(),
  })
  .describe(
    "A disk to begin with: PersistentVolumeClaims that name it in dataSourceRef are filled with it before they are bound.",
  );

export type VirtualMachineImage = z.output<typeof virtualMachineImage>;
export type VirtualMachineImageSpec = z.output<typeof spec>;
export type VirtualMachineImageStatus = z.output<typeof status>;
export type VirtualMachineImageManifest = z.input<typeof virtualMachineImage>;
export type ImportStatus = z.output<typeof importEntry>;
