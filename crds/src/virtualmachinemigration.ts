import { z } from "zod";
import { condition, observedGeneration } from "./condition.ts";
import { DISK_NAME_MAX_LENGTH, dnsLabel, GROUP_VERSION, objectName, VM_NAME_MAX_LENGTH } from "./names.ts";
import { objectMeta } from "./object-meta.ts";
import { anyQuantity, byteQuantity } from "./quantity.ts";
import { listMap, withRules } from "./rules.ts";

const target = z
  .strictObject({
    nodeName: objectName("Node that the machine moves to; the scheduler chooses one when absent.").exactOptional(),
    nodeSelector: z
      .record(z.string().max(317), z.string().max(63))
      .meta({ maxProperties: 32 })
      .describe("Labels that the node must have, besides what the machine's own template asks for.")
      .exactOptional(),
    allowSourceNode: z
      .boolean()
      .describe("Lets the machine move to another pod on the node that it is on.")
      .default(false),
  })
  .describe("Where to: any other node that the machine's template allows, when absent.");

/** Most disks of one machine. */
const TARGET_CLAIMS_MAX = 16;

const targetClaims = withRules(
  listMap(
    z
      .array(
        z.strictObject({
          disk: dnsLabel("disk", DISK_NAME_MAX_LENGTH, "Name of the disk in spec.disks of the VirtualMachine."),
          claimName: objectName(
            "Empty PersistentVolumeClaim, at least as large as the disk. What one of mode Block holds is overwritten.",
          ),
        }),
      )
      .min(1)
      .max(TARGET_CLAIMS_MAX),
    "disk",
  ).describe(
    "Claims that disks move to, for storage that one node alone can have (ReadWriteOnce): each disk is copied while the guest runs, and is on that claim from then on, whatever claim spec.disks of the VirtualMachine names until it is changed. Disks that are not listed stay on their claims.",
  ),
  {
    rule: "self.all(one, self.filter(other, other.claimName == one.claimName).size() == 1)",
    message: "targetClaims must not name one PersistentVolumeClaim twice: each disk needs a claim of its own",
  },
);

const priorities = ["Drain", "User", "Maintenance"] as const;

const spec = withRules(
  z.strictObject({
    virtualMachineName: dnsLabel(
      "virtualMachineName",
      VM_NAME_MAX_LENGTH,
      "VirtualMachine in the same namespace that moves.",
    ),
    target: target.exactOptional(),
    targetClaims: targetClaims.exactOptional(),
    bandwidth: byteQuantity(
      "bandwidth",
      { minimum: "64Ki", maximum: "64Gi", stepBytes: 1 },
      "Most that is sent a second, e.g. 100Mi. Default: the cluster's policy, which by default has no limit.",
    ).exactOptional(),
    maxDowntimeMilliseconds: z
      .int()
      .min(1)
      .max(60_000)
      .describe(
        "Copying ends once the guest is expected to stand still no longer, 1 to 60000; one that stood still for 10 s more runs on where it was. Default: the cluster's policy, 300 unless changed.",
      )
      .exactOptional(),
    deadlineSeconds: z
      .int()
      .min(1)
      .max(7 * 24 * 60 * 60)
      .describe(
        "How long the migration may take once its turn has come, at most a week; after that it is given up, and the machine stays where it is. Default: the cluster's policy, an hour unless changed.",
      )
      .exactOptional(),
    autoConverge: z
      .boolean()
      .describe(
        "Whether a guest that writes memory faster than it can be sent is slowed down. Default: the cluster's policy, true unless changed.",
      )
      .exactOptional(),
    priority: z
      .enum(priorities)
      .describe(
        "Who goes first where migrations wait for their turn. Drain: nodes that are to be emptied. User: people. Maintenance: whatever may wait.",
      )
      .default("User"),
    ttlSecondsAfterFinished: z
      .int()
      .min(0)
      .max(2 ** 31 - 1)
      .describe(
        "How long the object is kept after its end, in seconds. Default: the cluster's policy, a day unless changed.",
      )
      .exactOptional(),
  }),
  {
    rule: "self.virtualMachineName == oldSelf.virtualMachineName",
    message: "virtualMachineName cannot be changed: create another migration",
    fieldPath: ".virtualMachineName",
  },
);

const time = (description: string) => z.string().meta({ format: "date-time" }).describe(description).exactOptional();
const text = (description: string) => z.string().describe(description).exactOptional();
const count = (description: string) => z.int().min(0).describe(description).exactOptional();

/** States of a migration, for people and for printer columns; each but the last three goes on to another. */
export const migrationPhases = {
  Pending: "It waits for its turn, or for the machine to run.",
  Preparing: "The pod that the machine moves to is being started.",
  Copying: "Memory is being copied while the guest runs.",
  HandingOver: "The guest stands still, or it is being decided which pod it goes on in.",
  Finishing: "The guest runs in its new pod; the old one is ending.",
  Cancelling: "It is being taken back: the new pod is ending, and the machine stays where it is.",
  Succeeded: "The machine has moved.",
  Failed: "The machine has not moved; the message says why.",
  Cancelled: "It was deleted, or the machine stopped, before the machine had moved.",
} as const satisfies Record<string, string>;

export type MigrationPhase = keyof typeof migrationPhases;

/** Phases that a migration never leaves. */
export const finalMigrationPhases: ReadonlySet<string> = new Set<MigrationPhase>(["Succeeded", "Failed", "Cancelled"]);

const end = (which: string) =>
  z
    .strictObject({
      node: text("Node name."),
      podName: text("Pod name."),
      podUID: text("UID of the pod."),
    })
    .describe(which)
    .exactOptional();

const progress = z
  .strictObject({
    rounds: count("Passes over memory and the disks that are copied so far, the one under way included."),
    transferred: anyQuantity("What was sent of memory and disks, in bytes; zeroes are left out.").exactOptional(),
    remaining: anyQuantity("Bytes of memory and disks that the pass under way has left, about.").exactOptional(),
    rate: text("Bytes a second of the last pass, e.g. 120Mi/s."),
    dirtyRate: text("Bytes a second that the guest changed in the last pass, e.g. 4Mi/s."),
    throttlePercent: count("How much of the time the guest is held back, in percent."),
  })
  .describe("How far the copying is; written every few seconds at most.");

const milliseconds = (description: string) => z.number().min(0).describe(description);

const result = z
  .strictObject({
    totalMilliseconds: milliseconds("From the first connection to the end."),
    downtimeMilliseconds: milliseconds("From the guest's last instruction in the old pod to the first in the new one."),
    downtime: z
      .strictObject({
        halt: milliseconds("Bringing guest and devices to rest."),
        lastPass: milliseconds("Sending the last of memory and disks."),
        state: milliseconds("Taking the state of processors and devices."),
        load: milliseconds("Loading it in the new pod."),
        resume: milliseconds("Taking the disks, and letting the guest go on."),
      })
      .describe("Parts of the downtime, in milliseconds."),
    transferred: anyQuantity("What was sent of memory and disks, in bytes.").exactOptional(),
    rounds: count("Passes over memory and the disks that are copied."),
  })
  .describe("Figures of a migration that succeeded; absent where the old pod ended before it could be asked.");

/** Whose the machine is from now on. */
const handOver = z
  .strictObject({
    decision: z
      .enum(["source", "target", "neither"])
      .describe(
        "The pod that the machine goes on in. neither: both end, and spec.runStrategy decides what comes then.",
      ),
    message: text("What it was decided by."),
    decidedAt: time("When."),
  })
  .describe("What was decided where the pods could not agree; it is recorded before either is told, and stays.");

/** Claims that may hold the disks of a migration with targetClaims when it has ended. */
export const claimsInForce = ["Source", "Target", "Undecided"] as const;

/** Types of conditions of a migration, all present from the first status on, and what each says when True. */
export const migrationConditionTypes = {
  Ready: "The machine has moved.",
  Reconciling: "The migration is under way, or waits for its turn.",
  Stalled: "The migration has ended and the machine has not moved.",
} as const satisfies Record<string, string>;

const conditions = listMap(z.array(condition).max(8), "type").describe(
  Object.entries(migrationConditionTypes)
    .map(([type, meaning]) => `${type}: ${meaning}`)
    .join(" "),
);

const status = z.strictObject({
  observedGeneration,
  phase: z
    .enum(Object.keys(migrationPhases) as [MigrationPhase, ...MigrationPhase[]])
    .describe("How far it is.")
    .exactOptional(),
  conditions: conditions.exactOptional(),
  source: end("The pod that the machine moves from."),
  target: end("The pod that the machine moves to."),
  startedAt: time("When its turn came."),
  completedAt: time("When it ended, whichever way."),
  progress: progress.exactOptional(),
  handOver: handOver.exactOptional(),
  claimsInForce: z
    .enum(claimsInForce)
    .describe(
      "Of a migration with targetClaims that ends: the claims that hold the disks now. Source: those that they were on. Target: targetClaims. Undecided: nobody knows whether the guest ran on targetClaims, and the machine does not start until somebody says.",
    )
    .exactOptional(),
  result: result.exactOptional(),
});

export const virtualMachineMigration = withRules(
  z
    .strictObject({
      apiVersion: z.literal(GROUP_VERSION),
      kind: z.literal("VirtualMachineMigration"),
      metadata: objectMeta,
      spec: spec.describe("What moves, and how. It can be changed until its turn has come."),
      status: status.describe("How far it is. Only Typevisor writes here.").exactOptional(),
    })
    .describe("One live migration of a VirtualMachine: created to begin it, deleted to cancel it."),
  {
    rule: "!has(oldSelf.status) || !has(oldSelf.status.startedAt) || self.spec == oldSelf.spec",
    message: "spec cannot be changed once the migration has begun: delete it, and create another",
    fieldPath: ".spec",
  },
);

export type VirtualMachineMigration = z.output<typeof virtualMachineMigration>;
export type VirtualMachineMigrationSpec = z.output<typeof spec>;
export type VirtualMachineMigrationStatus = z.output<typeof status>;
export type VirtualMachineMigrationManifest = z.input<typeof virtualMachineMigration>;
export type MigrationPriority = (typeof priorities)[number];
