import { z } from "zod";
import { dnsLabel, objectName, RESERVED_LABEL_PREFIX } from "./names.ts";
import { quantity } from "./quantity.ts";
import { atomic, listMap, withRules } from "./rules.ts";
import { affinity, tolerations, topologySpreadConstraints } from "./scheduling.ts";

const LABELS_MAX = 64;

const importerResources = (what: string) =>
  z
    .strictObject({
      cpu: quantity("cpu", `CPU ${what}, in cores.`).exactOptional(),
      memory: quantity("memory", `Memory ${what}, in bytes.`).exactOptional(),
      "ephemeral-storage": quantity(
        "ephemeral-storage",
        `Node storage ${what}, in bytes: a qcow2 file from a server is kept there until its disk is written.`,
      ).exactOptional(),
    })
    .exactOptional();

const podResources = (what: string) =>
  z.strictObject({
    cpu: quantity("cpu", `CPU ${what}, in cores.`).exactOptional(),
    memory: quantity(
      "memory",
      `Memory ${what}, in bytes. It covers the guest's memory and the overhead of running it (status.overhead).`,
    ).exactOptional(),
    "ephemeral-storage": quantity(
      "ephemeral-storage",
      `Node storage ${what}, in bytes: what the guest writes to image disks and empty disks.`,
    ).exactOptional(),
  });

function withoutReserved(field: string, schema: z.ZodRecord<z.ZodString, z.ZodString>) {
  return withRules(schema, {
    rule: `!self.exists(key, key.startsWith('${RESERVED_LABEL_PREFIX}'))`,
    message: `${field} under ${RESERVED_LABEL_PREFIX} are set by Typevisor; choose another prefix`,
  });
}

const podMetadata = z.strictObject({
  labels: withoutReserved(
    "labels",
    z
      .record(z.string(), z.string().max(63))
      .meta({ maxProperties: LABELS_MAX })
      .describe("Labels of the pod, beside those of the VirtualMachine; here wins."),
  ).exactOptional(),
  annotations: withoutReserved(
    "annotations",
    z.record(z.string(), z.string()).meta({ maxProperties: LABELS_MAX }).describe("Annotations of the pod."),
  ).exactOptional(),
});

const nodeSelector = atomic(
  z.record(z.string(), z.string()).describe("Labels that the node must have, as in Pods."),
).exactOptional();

const pullSecrets = listMap(
  z.array(z.strictObject({ name: objectName("Secret of type kubernetes.io/dockerconfigjson.") })).max(16),
  "name",
);

const podSpec = z.strictObject({
  nodeSelector,
  affinity: affinity.exactOptional(),
  tolerations: tolerations.exactOptional(),
  topologySpreadConstraints: topologySpreadConstraints.exactOptional(),
  priorityClassName: z
    .string()
    .max(253)
    .describe("PriorityClass of the pod; by default the one that the cluster's administrator chose for machines.")
    .exactOptional(),
  schedulerName: z.string().min(1).max(253).describe("Scheduler that places the pod.").exactOptional(),
  imagePullSecrets: pullSecrets
    .describe("Secrets for pulling the images of disks and kernel, as in Pods.")
    .exactOptional(),
  hostname: dnsLabel(
    "hostname",
    63,
    "Host name of the pod; the name of the VirtualMachine by default.",
  ).exactOptional(),
  subdomain: dnsLabel(
    "subdomain",
    63,
    "Subdomain of the pod: with a headless Service of that name, HOSTNAME.SUBDOMAIN.NAMESPACE.svc is its DNS name.",
  ).exactOptional(),
  resources: z
    .strictObject({
      requests: podResources("that is set aside on the node")
        .describe("Requests in place of the computed ones, e.g. to give the machine whole CPUs.")
        .exactOptional(),
      limits: podResources("that may be used at most")
        .describe("Limits; none by default. A memory limit that is a little too small kills the machine.")
        .exactOptional(),
    })
    .describe("Resources of the pod where they shall differ from what Typevisor computes.")
    .exactOptional(),
});

export const podTemplate = z
  .strictObject({
    metadata: podMetadata.describe("Labels and annotations of the pod.").exactOptional(),
    spec: podSpec.describe("Fields of the pod, named and meant as in a PodSpec.").exactOptional(),
  })
  .describe("What the machine's pod gets beside what Typevisor sets. Fields are named as in a PodTemplate.");

export type PodTemplate = z.output<typeof podTemplate>;
export type PodTemplateSpec = z.output<typeof podSpec>;

/** Of the pods that fill claims. */
export const importerTemplate = z
  .strictObject({
    spec: z
      .strictObject({
        nodeSelector,
        affinity: affinity.exactOptional(),
        tolerations: tolerations.exactOptional(),
        priorityClassName: z.string().max(253).describe("PriorityClass of the pod.").exactOptional(),
        imagePullSecrets: pullSecrets
          .describe("Secrets for pulling the image of the source, as in Pods.")
          .exactOptional(),
        resources: z
          .strictObject({
            requests: importerResources("that is set aside on the node"),
            limits: importerResources("that may be used at most"),
          })
          .describe("Resources in place of those that the cluster's administrator chose for imports.")
          .exactOptional(),
      })
      .describe("Fields of the pod, named and meant as in a PodSpec.")
      .exactOptional(),
  })
  .describe(
    "What the pods that fill claims get beside what Typevisor sets, named as in a PodTemplate. A pod that has not started yet is made anew when it changes.",
  );

export type ImporterTemplate = z.output<typeof importerTemplate>;
