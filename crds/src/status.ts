import { z } from "zod";
import { conditions, observedGeneration } from "./condition.ts";
import { anyQuantity } from "./quantity.ts";
import { listMap } from "./rules.ts";

const time = (description: string) => z.string().meta({ format: "date-time" }).describe(description).exactOptional();
const text = (description: string) => z.string().describe(description).exactOptional();
const count = (description: string) => z.int().min(0).describe(description).exactOptional();

/** Summaries of the conditions, for people. */
export const phases = {
  Pending: "The pod is to be created, or waits for a node, images or volumes.",
  Starting: "The launcher prepares the machine; the guest has not run yet.",
  Running: "The guest runs.",
  Paused: "The guest is paused.",
  Migrating: "The guest runs and is moving to another node.",
  Stopping: "The guest was asked to power off.",
  Stopped: "The machine is off and stays off.",
  CrashBackOff: "The machine ended in a fault and is started again after a delay.",
  Failed: "The machine ended in a fault, or cannot start until someone changes something.",
  Terminating: "The VirtualMachine is being deleted.",
  Unknown: "The node does not answer.",
} as const satisfies Record<string, string>;

export type Phase = keyof typeof phases;

const termination = z.strictObject({
  reason: z.string().min(1).max(1024).describe("Why the machine ended, in one word; docs/api.md lists them all."),
  message: z.string().max(32768).describe("Why, for a person, and what to do next."),
  exitCode: z.int().describe("Exit code of the launcher.").exactOptional(),
  podUID: text("UID of the pod that ended, so that an end is counted once."),
  startedAt: time("When the guest's first instruction had run; absent when it never ran."),
  finishedAt: time("When the launcher ended."),
});

const migrationEnd = (which: string) =>
  z
    .strictObject({ node: text("Node name."), podName: text("Pod name.") })
    .describe(`Where the machine moves ${which}.`)
    .exactOptional();

export const status = z.strictObject({
  observedGeneration,
  phase: z
    .enum(Object.keys(phases) as [Phase, ...Phase[]])
    .describe("Summary of the conditions, for people. Programs read the conditions.")
    .exactOptional(),
  conditions: conditions.exactOptional(),
  node: text("Node that the machine is on."),
  podName: text("Pod that the machine is in."),
  podUID: text("UID of that pod."),
  podIP: text("IP address of that pod."),
  startedAt: time("When the guest's first instruction of this run was executed."),
  launcherVersion: text("Version of the launcher that the machine runs in."),
  interfaces: listMap(
    z
      .array(
        z.strictObject({
          name: z.string().describe("Name of the interface."),
          mac: text("MAC address that the guest has."),
          state: text("Up or Down, as the guest is told."),
          ipAddresses: z
            .array(z.string())
            .max(16)
            .describe("Addresses that others reach the guest at.")
            .exactOptional(),
        }),
      )
      .max(8),
    "name",
  )
    .describe("Network interfaces as they are.")
    .exactOptional(),
  volumes: listMap(
    z
      .array(
        z.strictObject({
          name: z.string().describe("Name of the disk."),
          source: text(
            "Where its data is: image, persistentVolumeClaim, volumeClaimTemplate, emptyDisk, cloudInit, configMap or secret.",
          ),
          claimName: text("PersistentVolumeClaim that it is on."),
          volumeMode: text("Block or Filesystem."),
          phase: text("Of a claim: Pending, Bound or Lost, or Missing where there is none of the name."),
          size: anyQuantity("Size that the guest sees.").exactOptional(),
          state: z
            .enum(["Pending", "Attaching", "Attached", "Detaching"])
            .describe(
              "How it stands with the running guest. Pending: its volume comes to the node. Attaching: the guest has been told of it. Detaching: the guest has been asked to give it up.",
            )
            .exactOptional(),
          message: text("Why its claim is not as its template says, or what the disk waits for."),
        }),
      )
      .max(32),
    "name",
  )
    .describe("Disks as they are.")
    .exactOptional(),
  movedDisks: listMap(
    z
      .array(
        z.strictObject({
          name: z.string().describe("Name of the disk."),
          specClaimName: z.string().describe("PersistentVolumeClaim that spec.disks named when the disk moved."),
          claimName: z.string().describe("PersistentVolumeClaim that the disk is on where spec.disks names that one."),
          nextClaimName: text(
            "PersistentVolumeClaim that a migration copies the disk to. Until it is known where the guest goes on, the machine is not started anew.",
          ),
          migrationUID: text("UID of that migration."),
        }),
      )
      .max(16),
    "name",
  )
    .describe(
      "Disks that migrations moved to other claims than spec.disks names. They hold until spec.disks names another claim and the machine is started anew.",
    )
    .exactOptional(),
  overhead: z
    .strictObject({
      memory: anyQuantity("Memory that the pod requests beyond the guest's own.").exactOptional(),
    })
    .describe("What running the machine costs beyond its own size.")
    .exactOptional(),
  migration: z
    .strictObject({
      name: text("VirtualMachineMigration that moves the machine."),
      phase: text("How far it is."),
      source: migrationEnd("from"),
      target: migrationEnd("to"),
      startedAt: time("When it began."),
    })
    .describe("Live migration under way.")
    .exactOptional(),
  lastMigration: z
    .strictObject({
      name: text("VirtualMachineMigration that it was."),
      phase: text("How it ended: Succeeded, Failed or Cancelled."),
      message: text("Why, for a person."),
      source: migrationEnd("from"),
      target: migrationEnd("to"),
      downtimeMilliseconds: z
        .number()
        .min(0)
        .describe("How long the guest stood still, where that is known.")
        .exactOptional(),
      completedAt: time("When it ended."),
    })
    .describe("Live migration that ended last.")
    .exactOptional(),
  restarts: count("How often the machine was started again since the VirtualMachine was created."),
  reboots: count("How often the guest rebooted in this run; a reboot is no restart, the pod stays."),
  consecutiveCrashes: count("Ends in a fault in a row; the delay before the next start doubles with each."),
  failedStarts: count("Pods in a row that failed before the machine started."),
  nextStartTime: time("When the machine is started again; absent when nothing is waited for."),
  lastTermination: termination.describe("How the machine ended last.").exactOptional(),
});

export type VirtualMachineStatus = z.output<typeof status>;
export type Termination = z.output<typeof termination>;
