import { describe, expect, it } from "@jest/globals";
import type { Pod } from "../../runtime/wire.ts";
import { ATTACHMENT_LABEL, VM_LABEL } from "../virtualmachine/names.ts";
import type { StoredVirtualMachine } from "../virtualmachine/observe.ts";
import { at, NOW_MS, POD_UID, VM_UID } from "../virtualmachine/testing/fixtures.ts";
import type { StoredMigration } from "../virtualmachinemigration/stored.ts";
import { decideEviction, machineNameOf } from "./decide.ts";
import { EVICTED_POD_LABEL } from "./names.ts";
import { drainMigration, failedMigration, launcherPod, runningMachine, type Strategy } from "./testing/fixtures.ts";

const decide = (
  vm: StoredVirtualMachine | undefined,
  pod: Pod | undefined,
  migrations: readonly StoredMigration[] = [],
) => decideEviction({ vm, pod, migrations }, NOW_MS);
const asked = (
  strategy: Strategy,
  migratable: "True" | "False" | "Unknown" = "True",
  migrations: StoredMigration[] = [],
) => {
  const vm = runningMachine(strategy, migratable);
  return decide(vm, launcherPod(vm), migrations);
};
const MOVING: readonly Strategy[] = ["LiveMigrate", "LiveMigrateIfPossible"];

describe("an eviction that passes as any pod's", () => {
  const vm = runningMachine("LiveMigrate");

  it("is that of a pod that is not there, or of nobody's machine", () => {
    expect(decide(vm, undefined)).toEqual({ kind: "allow" });
    expect(decide(undefined, launcherPod(vm))).toEqual({ kind: "allow" });
  });

  it("is that of a pod which only says that it is a machine's", () => {
    const forged = launcherPod(vm, (pod) => Object.assign(pod.metadata ?? {}, { ownerReferences: [] }));
    expect(decide(vm, forged)).toEqual({ kind: "allow" });
    const former = launcherPod(vm, (pod) => Object.assign(pod.metadata?.ownerReferences?.[0] ?? {}, { uid: "former" }));
    expect(decide(vm, former)).toEqual({ kind: "allow" });
  });

  it("is that of a machine which wants no better", () => {
    expect(asked("None")).toEqual({ kind: "allow" });
    expect(asked("None", "False")).toEqual({ kind: "allow" });
  });

  it.each<[string, (pod: Pod) => void]>([
    ["is ending", (pod) => Object.assign(pod.metadata ?? {}, { deletionTimestamp: at(5) })],
    ["has succeeded", (pod) => Object.assign(pod.status ?? {}, { phase: "Succeeded" })],
    ["has failed", (pod) => Object.assign(pod.status ?? {}, { phase: "Failed" })],
    ["has not started", (pod) => Object.assign(pod.status ?? {}, { phase: "Pending" })],
  ])("is that of a pod which %s", (_, change) => {
    expect(decide(vm, launcherPod(vm, change))).toEqual({ kind: "allow" });
  });

  it("is that of a machine which is being deleted", () => {
    const going = { ...vm, metadata: { ...vm.metadata, deletionTimestamp: at(0) } };
    expect(decide(going, launcherPod(vm))).toEqual({ kind: "allow" });
  });
});

describe("an eviction of a machine that can move", () => {
  it.each(MOVING)("begins a migration of the highest priority, with %s", (strategy) => {
    const decision = asked(strategy);
    expect(decision).toMatchObject({
      kind: "migrate",
      message: expect.stringMatching(/^VirtualMachine web moves to another node by VirtualMachineMigration drain-web-/),
    });
    expect(decision.kind === "migrate" && decision.migration).toMatchObject({
      metadata: {
        name: `drain-web-${POD_UID.slice(0, 8)}-1`,
        namespace: "shop",
        labels: { [EVICTED_POD_LABEL]: POD_UID },
        ownerReferences: [{ kind: "VirtualMachine", name: "web", uid: VM_UID }],
      },
      spec: { virtualMachineName: "web", priority: "Drain" },
    });
  });

  it("waits while that one is under way, and tells how far it is", () => {
    const message = "4Mi of 1Gi are left";
    const conditions = [
      {
        type: "Reconciling",
        status: "True" as const,
        reason: "x",
        message,
        observedGeneration: 1,
        lastTransitionTime: at(0),
      },
    ];
    expect(asked("LiveMigrate", "True", [drainMigration(1)])).toMatchObject({ kind: "wait" });
    expect(asked("LiveMigrate", "True", [drainMigration(1, { phase: "Copying", conditions })])).toEqual({
      kind: "wait",
      message: `VirtualMachine web is moving to another node by VirtualMachineMigration drain-web-${POD_UID.slice(0, 8)}-1 (Copying: ${message})`,
    });
  });

  it("waits for a migration that somebody else began, even where the condition has changed since", () => {
    const users = { ...drainMigration(1, { phase: "HandingOver" }), metadata: { name: "mine", namespace: "shop" } };
    expect(asked("LiveMigrateIfPossible", "False", [users])).toMatchObject({ kind: "wait" });
  });

  it("does not take the pod that a machine is moving into", () => {
    const target = { podUID: POD_UID };
    const decision = asked("LiveMigrate", "True", [drainMigration(1, { phase: "Copying", target }, "another-pod")]);
    expect(decision).toMatchObject({
      kind: "wait",
      message: expect.stringMatching(/into this pod.*delete the migration/),
    });
  });

  it("begins another one after a failure, later each time, under a name of its own", () => {
    expect(asked("LiveMigrate", "True", [failedMigration(1, 19)])).toEqual({
      kind: "refuse",
      message: expect.stringMatching(
        /-1 of VirtualMachine web failed: no node has room; the next one may begin at 2026-/,
      ),
    });
    const second = asked("LiveMigrate", "True", [failedMigration(1, 20)]);
    expect(second.kind === "migrate" && second.migration.metadata.name).toMatch(/-2$/);
    const two = [failedMigration(2, 39), failedMigration(1, 90)];
    expect(asked("LiveMigrate", "True", two).kind).toBe("refuse");
    const many = Array.from({ length: 12 }, (_, i) => failedMigration(i + 1, 301 + 12 - i));
    const last = asked("LiveMigrate", "True", many);
    expect(last.kind === "migrate" && last.migration.metadata.name).toMatch(/-13$/);
  });

  it("does not count what happened to another pod of the machine", () => {
    const past = [drainMigration(1, { phase: "Failed", completedAt: at(-1) }, "22222222-former")];
    const decision = asked("LiveMigrate", "True", past);
    expect(decision.kind === "migrate" && decision.migration.metadata.name).toMatch(/-1$/);
  });

  it("stops a machine that moves only where that is possible after three failures, and says so", () => {
    const three = [1, 2, 3].map((attempt) => failedMigration(attempt, 10 - attempt));
    expect(asked("LiveMigrateIfPossible", "True", three)).toEqual({
      kind: "allow",
      warning: expect.stringMatching(/-3 of VirtualMachine web failed: no node has room\. The machine is stopped/),
    });
    expect(asked("LiveMigrate", "True", three).kind).toBe("refuse");
    expect(asked("LiveMigrateIfPossible", "True", three.slice(0, 2)).kind).toBe("refuse");
  });
});

describe("an eviction of a machine that cannot move", () => {
  it("is refused with the reason and the way out", () => {
    expect(asked("LiveMigrate", "False")).toEqual({
      kind: "refuse",
      message: expect.stringMatching(
        /cannot move: Disk data is on claim web-data \(DiskNotMigratable\)\..*evictionStrategy to None/,
      ),
    });
  });

  it("passes with a warning where the machine moves only if that is possible", () => {
    expect(asked("LiveMigrateIfPossible", "False")).toEqual({
      kind: "allow",
      warning: expect.stringMatching(/Disk data is on claim web-data .*It is stopped/),
    });
  });

  it.each(MOVING)("waits with %s while nobody knows whether it could", (strategy) => {
    expect(asked(strategy, "Unknown")).toMatchObject({
      kind: "refuse",
      message: expect.stringMatching(/not known yet/),
    });
    const vm = runningMachine(strategy);
    const young = launcherPod(vm, (pod) => Object.assign(pod.metadata ?? {}, { uid: "newer" }));
    expect(decide(vm, young)).toMatchObject({ kind: "refuse", message: expect.stringMatching(/not known yet/) });
    expect(decide({ ...vm, status: { podUID: POD_UID } }, launcherPod(vm))).toMatchObject({ kind: "refuse" });
  });
});

describe("an eviction of a pod that holds a disk", () => {
  const holder = (vm: StoredVirtualMachine) =>
    launcherPod(vm, (pod) => {
      const { [VM_LABEL]: _, ...labels } = pod.metadata?.labels ?? {};
      Object.assign(pod.metadata ?? {}, { uid: "holder", labels: { ...labels, [ATTACHMENT_LABEL]: "web" } });
    });

  it("waits for the machine, which would lose the disk while it runs", () => {
    const vm = runningMachine("LiveMigrate", "False");
    expect(decide(vm, holder(vm))).toEqual({
      kind: "refuse",
      message: expect.stringMatching(/holds a disk of VirtualMachine web.*Disk data is on claim web-data/),
    });
  });

  it("passes where the machine is stopped as well", () => {
    const vm = runningMachine("None");
    expect(decide(vm, holder(vm))).toEqual({ kind: "allow" });
  });
});

describe("whose a pod is", () => {
  it("is told by its labels, all of them", () => {
    const vm = runningMachine("LiveMigrate");
    expect(machineNameOf(launcherPod(vm))).toBe("web");
    expect(machineNameOf({ metadata: { labels: { [VM_LABEL]: "web" } } })).toBeUndefined();
    expect(machineNameOf({ metadata: { name: "vm-web" } })).toBeUndefined();
  });
});
