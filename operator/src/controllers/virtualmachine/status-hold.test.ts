import { describe, expect, it } from "@jest/globals";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import { STATUS_HOLD_MS, StatusHold } from "./status-hold.ts";

const pending: VirtualMachineStatus = { phase: "Pending" };
const starting: VirtualMachineStatus = { phase: "Starting", node: "node1" };
const unanswered: VirtualMachineStatus = { phase: "Running", node: "node1" };
const running: VirtualMachineStatus = { ...unanswered, startedAt: "2026-01-01T00:00:00Z" };
const time = "2026-01-01T00:00:00Z";

describe("a status", () => {
  it.each<[string, VirtualMachineStatus]>([
    ["Pending", pending],
    ["Starting", starting],
    ["Running, of which the launcher has not told yet", unanswered],
  ])("waits for what comes next when it is %s, counted from the first that waits", (_what, next) => {
    const hold = new StatusHold();
    expect(hold.delayMs("a", {}, pending, 1000)).toBe(STATUS_HOLD_MS);
    expect(hold.delayMs("b", {}, next, 1100)).toBe(STATUS_HOLD_MS);
    expect(hold.delayMs("a", {}, next, 1200)).toBe(STATUS_HOLD_MS - 200);
    expect(hold.delayMs("a", {}, next, 1000 + STATUS_HOLD_MS)).toBeUndefined();
    expect(hold.delayMs("a", pending, next, 5000)).toBe(STATUS_HOLD_MS);
  });

  it("is written at once when the guest runs, and the next wait is a whole one", () => {
    const hold = new StatusHold();
    hold.delayMs("a", {}, starting, 1000);
    expect(hold.delayMs("a", {}, running, 1100)).toBeUndefined();
    expect(hold.delayMs("a", running, pending, 1200)).toBe(STATUS_HOLD_MS);
  });

  const stalled = {
    observedGeneration: 1,
    type: "Stalled",
    status: "True",
    reason: "InvalidSpec",
    message: "",
    lastTransitionTime: time,
  } as const;
  it.each<[string, VirtualMachineStatus]>([
    ["somebody must act", { ...pending, conditions: [stalled] }],
    ["it counts a restart", { ...pending, restarts: 1 }],
    ["it counts a failed start", { ...pending, failedStarts: 1 }],
    ["it counts a crash", { ...pending, consecutiveCrashes: 1 }],
    ["it says when the machine starts again", { ...pending, nextStartTime: time }],
    ["it has how the machine ended", { ...pending, lastTermination: { reason: "X", message: "", podUID: "1" } }],
  ])("is written at once when %s", (_what, next) => {
    expect(new StatusHold().delayMs("a", {}, next, 1000)).toBeUndefined();
  });

  it("waits anew for a machine that was forgotten", () => {
    const hold = new StatusHold();
    hold.delayMs("a", {}, pending, 1000);
    hold.forget("a");
    expect(hold.delayMs("a", {}, pending, 1400)).toBe(STATUS_HOLD_MS);
  });
});
