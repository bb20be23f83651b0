import { z } from "zod";
import { boot } from "./boot.ts";
import { disks } from "./disk.ts";
import { interfaceRules, interfaces } from "./interface.ts";
import { GROUP_VERSION, isDnsLabel, VM_NAME_MAX_LENGTH } from "./names.ts";
import { objectMeta } from "./object-meta.ts";
import { podTemplate } from "./pod-template.ts";
import { livenessProbe, probeRules, readinessProbe } from "./probe.ts";
import { byteQuantity } from "./quantity.ts";
import { listMap, withRules } from "./rules.ts";
import { status } from "./status.ts";
import { retentionPolicy, volumeClaimTemplateRules, volumeClaimTemplates } from "./volume-claim-template.ts";

/** Most virtual processors of one machine. */
export const CORES_MAX = 64;

const cpu = z
  .strictObject({
    cores: z.int().min(1).max(CORES_MAX).describe(`Number of virtual processors, 1 to ${CORES_MAX}.`).default(1),
    model: z
      .enum(["Host"])
      .describe("Processor that the guest sees. Host: the node's own, with what KVM can give of it.")
      .default("Host"),
  })
  .describe("Virtual processors.");

const memory = z
  .strictObject({
    size: byteQuantity(
      "size",
      { minimum: "16Mi", maximum: "16Ti", stepBytes: 1024 * 1024 },
      "Memory of the guest, e.g. 512Mi or 2Gi: a multiple of 1Mi, at least 16Mi. The pod requests this and a published overhead.",
    ),
  })
  .describe("Memory of the guest.");

const runStrategy = z.enum(["Always", "RerunOnFailure", "Once", "Halted"]);

/** CEL: true where the template's `resources.KIND.memory`, if given, is at least the guest's memory. */
function coversGuestMemory(kind: "requests" | "limits"): string {
  const path = ["template", "spec", "resources", kind, "memory"];
  const given = path.map((_, index) => `has(self.${path.slice(0, index + 1).join(".")})`).join(" && ");
  const value = `string(self.${path.join(".")})`;
  const size = "self.memory.size";
  return `!(${given}) || !isQuantity(${value}) || !isQuantity(${size}) || quantity(${value}).compareTo(quantity(${size})) >= 0`;
}

const byKernel = "(has(self.boot) && has(self.boot.kernel))";
/** What UEFI firmware needs to unpack itself. */
const FIRMWARE_MEMORY = "64Mi";

const spec = withRules(
  z.strictObject({
    runStrategy: runStrategy
      .describe(
        "When the machine runs. Always: started again whenever it ends. RerunOnFailure: started again unless the guest powers itself off. Once: never started again. Halted: off.",
      )
      .default("Always"),
    paused: z
      .boolean()
      .describe("Stops the guest's processors and keeps its memory, until set to false.")
      .default(false),
    cpu: cpu.prefault({}),
    memory,
    boot: boot.exactOptional(),
    disks: listMap(disks, "name").default([]),
    volumeClaimTemplates: volumeClaimTemplates.exactOptional(),
    persistentVolumeClaimRetentionPolicy: retentionPolicy.exactOptional(),
    interfaces: listMap(interfaces, "name").exactOptional(),
    vsock: z
      .strictObject({})
      .describe(
        "Gives the guest a virtio-vsock: streams between its ports and unix sockets in the pod, without a network. It is CID 3. See docs/vsock.md.",
      )
      .exactOptional(),
    readinessProbe: readinessProbe.exactOptional(),
    livenessProbe: livenessProbe.exactOptional(),
    template: podTemplate.exactOptional(),
    evictionStrategy: z
      .enum(["LiveMigrate", "LiveMigrateIfPossible", "None"])
      .describe(
        "What a drain of the node does. LiveMigrate: moves the machine, and waits until it can. LiveMigrateIfPossible: moves it where that is possible, else stops it. None: stops it, as with any pod.",
      )
      .default("None"),
    terminationGracePeriodSeconds: z
      .int()
      .min(0)
      .max(24 * 60 * 60)
      .describe(
        "How long the guest has between the press of its power button and being switched off, in seconds, when it is stopped, restarted or deleted. At most a day.",
      )
      .default(120),
  }),
  {
    rule: `${byKernel} || self.disks.size() > 0`,
    message: "spec.boot.kernel is required where there is no disk to boot from: name a kernel, or add a disk",
  },
  {
    rule: `${byKernel} || !isQuantity(self.memory.size) || quantity(self.memory.size).compareTo(quantity('${FIRMWARE_MEMORY}')) >= 0`,
    message: `spec.memory.size must be at least ${FIRMWARE_MEMORY} without spec.boot.kernel: firmware needs it`,
    fieldPath: ".memory.size",
  },
  {
    rule: coversGuestMemory("requests"),
    message: "spec.template.spec.resources.requests.memory must be at least spec.memory.size, plus the overhead",
    fieldPath: ".template.spec.resources.requests.memory",
  },
  {
    rule: coversGuestMemory("limits"),
    message:
      "spec.template.spec.resources.limits.memory must be more than spec.memory.size: leave room for the overhead",
    fieldPath: ".template.spec.resources.limits.memory",
  },
  ...volumeClaimTemplateRules,
  ...interfaceRules,
  ...probeRules,
);

export const virtualMachine = withRules(
  z
    .strictObject({
      apiVersion: z.literal(GROUP_VERSION),
      kind: z.literal("VirtualMachine"),
      metadata: objectMeta,
      spec: spec.describe("What the machine shall be. Only users write here."),
      status: status.describe("What the machine is. Only Typevisor writes here.").exactOptional(),
    })
    .describe("A virtual machine that runs in a pod of its own."),
  {
    rule: `self.metadata.name.size() <= ${VM_NAME_MAX_LENGTH} && ${isDnsLabel("self.metadata.name")}`,
    message: `metadata.name must be at most ${VM_NAME_MAX_LENGTH} lower-case letters, digits and '-': it becomes the pod's host name`,
  },
);

/** A VirtualMachine as the API server gives it: defaults filled in. */
export type VirtualMachine = z.output<typeof virtualMachine>;
export type VirtualMachineSpec = z.output<typeof spec>;
/** A VirtualMachine as a user writes it. */
export type VirtualMachineManifest = z.input<typeof virtualMachine>;
export type RunStrategy = z.output<typeof runStrategy>;
