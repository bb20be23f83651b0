import { describe, expect, it } from "@jest/globals";
import { hasTakenOverFrom, isIncoming, isSameRun, launcherPodsOf } from "./launcher-pods.ts";
import { machine, POD_UID, podOf, VM_UID } from "./testing/fixtures.ts";
import { TARGET_UID, targetPodOf } from "./testing/migration-fixtures.ts";

const vm = machine();
const source = podOf(vm, "running");
const incoming = targetPodOf(vm, "running");
const target = targetPodOf(vm, "running", true);
const foreign = { metadata: { name: "vm-web", namespace: "shop", uid: "other" } };

describe("the pods of a machine", () => {
  it("are one, unless it moves", () => {
    expect(launcherPodsOf([source], VM_UID)).toEqual({ pod: source, incoming: undefined, left: undefined });
    expect(launcherPodsOf([], VM_UID)).toEqual({ pod: undefined, incoming: undefined, left: undefined });
  });

  it("are the one that it is in and the one that it moves to, which counts once it has taken over", () => {
    expect(launcherPodsOf([source, incoming], VM_UID)).toEqual({ pod: source, incoming, left: undefined });
    expect(launcherPodsOf([source, target], VM_UID)).toEqual({ pod: target, incoming: undefined, left: source });
    expect(launcherPodsOf([target], VM_UID)).toEqual({ pod: target, incoming: undefined, left: undefined });
  });

  it("are none where only one is left that the machine never came to", () => {
    expect(launcherPodsOf([incoming], VM_UID)).toEqual({ pod: undefined, incoming, left: undefined });
  });

  it("do not include those of others, which are told of where there is nothing else", () => {
    expect(launcherPodsOf([foreign, target], VM_UID).pod).toBe(target);
    expect(launcherPodsOf([foreign], VM_UID).pod).toBe(foreign);
    expect(launcherPodsOf([foreign, incoming], VM_UID)).toMatchObject({ pod: foreign, incoming });
  });
});

describe("a pod that a machine moves to", () => {
  it("goes on with the run of the pod before it only once it has taken over", () => {
    expect([isIncoming(source), isIncoming(incoming), isIncoming(target)]).toEqual([false, true, false]);
    expect([hasTakenOverFrom(incoming, POD_UID), hasTakenOverFrom(target, POD_UID)]).toEqual([false, true]);
    expect([isSameRun(target, POD_UID), isSameRun(target, TARGET_UID), isSameRun(target, "other")]).toEqual([
      true,
      true,
      false,
    ]);
    expect([isSameRun(incoming, POD_UID), isSameRun(target, undefined)]).toEqual([false, false]);
  });
});
