import { expect, it } from "@jest/globals";
import { Milestones } from "./milestones.ts";

it("notes when each step was done first, in order, in tenths of a millisecond", () => {
  let nowMs = 1.26;
  const milestones = new Milestones(() => nowMs);
  milestones.mark("kvm");
  nowMs = 7;
  milestones.mark("memory");
  milestones.mark("kvm");
  expect(Object.entries(milestones.snapshot())).toEqual([
    ["kvm", 1.3],
    ["memory", 7],
  ]);
});
