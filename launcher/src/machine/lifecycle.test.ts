import { describe, expect, it } from "@jest/globals";
import type { MachineState } from "../../api/control.ts";
import { IllegalTransition } from "./control-surface.ts";
import { Lifecycle, type LifecycleAction, transitions } from "./lifecycle.ts";

const actions: readonly LifecycleAction[] = ["start", "pause", "resume", "reset", "stop", "end"];

/** Written down a second time: the target of each of `actions`, in order; null where it is illegal. */
const expected: Readonly<Record<MachineState, readonly (MachineState | null)[]>> = {
  Starting: ["Running", null, null, null, null, "Ended"],
  Running: ["Running", "Paused", "Running", "Running", "Stopping", "Ended"],
  Paused: [null, "Paused", "Running", "Paused", null, "Ended"],
  Stopping: [null, null, "Stopping", "Stopping", "Stopping", "Ended"],
  Ended: [null, null, null, null, "Ended", "Ended"],
};

/** The actions that lead from the start to each state. */
const ways: Readonly<Record<MachineState, readonly LifecycleAction[]>> = {
  Starting: [],
  Running: ["start"],
  Paused: ["start", "pause"],
  Stopping: ["start", "stop"],
  Ended: ["start", "end"],
};

function inState(state: MachineState): Lifecycle {
  const lifecycle = new Lifecycle();
  for (const action of ways[state]) lifecycle.take(action);
  expect(lifecycle.state).toBe(state);
  return lifecycle;
}

const cases = (Object.keys(transitions) as MachineState[]).flatMap((state) =>
  actions.map((action) => ({ state, action, target: expected[state][actions.indexOf(action)] ?? null })),
);

describe("the life of a machine", () => {
  it.each(cases.filter(({ target }) => target))("$state: $action leads to $target", ({ state, action, target }) => {
    const lifecycle = inState(state);
    const told: MachineState[] = [];
    lifecycle.onState((now) => told.push(now));
    expect(lifecycle.target(action)).toBe(target);
    expect(lifecycle.take(action)).toBe(target !== state);
    expect(lifecycle.state).toBe(target);
    expect(told).toEqual(target === state ? [] : [target]);
  });

  it.each(cases.filter(({ target }) => !target))("$state: $action is illegal and changes nothing", (illegal) => {
    const lifecycle = inState(illegal.state);
    expect(() => lifecycle.take(illegal.action)).toThrow(IllegalTransition);
    expect(() => lifecycle.take(illegal.action)).toThrow(`cannot ${illegal.action} a machine that is ${illegal.state}`);
    expect(lifecycle.state).toBe(illegal.state);
  });

  it("tells nobody who stopped listening, not even while it tells", () => {
    const lifecycle = new Lifecycle();
    const told: string[] = [];
    const first = lifecycle.onState(() => {
      told.push("first");
      first[Symbol.dispose]();
    });
    lifecycle.onState(() => told.push("second"));
    lifecycle.take("start");
    lifecycle.take("end");
    expect(told).toEqual(["first", "second", "second"]);
  });
});
