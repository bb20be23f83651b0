import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { Pod } from "../../runtime/wire.ts";
import { decide } from "./decide.ts";
import { fieldDigests } from "./drift.ts";
import { annotations } from "./names.ts";
import type { Action } from "./plan.ts";
import type { Settings } from "./settings.ts";
import { launcherSays, machine, NOW_MS, observation, settings } from "./testing/fixtures.ts";

/**
 * The pod of `machine()`, as the operator made it before there were interfaces, hot-plug and migrations (November 2026,
 * commit ec498eb). A release replaces it by a pod of the one before.
 */
const recorded = JSON.parse(
  readFileSync(join(import.meta.dirname, "testing/pod-of-the-version-before.json"), "utf8"),
) as Pod;

function actionsOn(pod: Pod, spec: Partial<VirtualMachineSpec> = {}, changes: Partial<Settings> = {}): Action[] {
  const vm = machine(spec);
  return [
    ...decide(observation(vm, { pod, launcher: launcherSays(pod, {}) }), { ...settings, ...changes }, NOW_MS).actions,
  ];
}

function restartRequired(actions: readonly Action[]) {
  const write = actions.find((action) => action.kind === "write-status");
  return write?.status.conditions?.find(({ type }) => type === "RestartRequired");
}

describe("a machine in a pod of the version before", () => {
  it("is left alone, and is not said to have changed", () => {
    const actions = actionsOn(recorded);
    expect(actions.map(({ kind }) => kind)).toEqual(["write-status"]);
    expect(restartRequired(actions)).toMatchObject({ status: "False" });
  });

  it("is left alone when the launcher is another by now, and said to be outdated", () => {
    const actions = actionsOn(recorded, {}, { launcherImage: "registry.example/launcher:2" });
    expect(actions.map(({ kind }) => kind)).toEqual(["write-status"]);
    expect(restartRequired(actions)).toMatchObject({ status: "True", reason: "LauncherOutdated" });
  });

  it.each<[string, Partial<VirtualMachineSpec>]>([
    ["spec.interfaces[default].podIP", { interfaces: [{ name: "default", podIP: {}, state: "Up" }] }],
    ["spec.vsock", { vsock: {} }],
    ["spec.cpu.cores", { cpu: { cores: 1, model: "Host" } }],
    ["spec.disks[]", { disks: [] }],
  ])("is said to have changed when somebody writes %s", (field, spec) => {
    const condition = restartRequired(actionsOn(recorded, spec));
    expect(condition).toMatchObject({ status: "True", reason: "SpecChanged" });
    expect(condition?.message).toContain(field);
  });

  it("is not said to have changed in what acts on running machines by now", () => {
    const started = {
      ...fieldDigests(machine().spec, settings),
      "spec.disks[root].image.overlaySizeLimit": "0123456789",
    };
    const metadata = {
      ...recorded.metadata,
      annotations: { ...recorded.metadata?.annotations, [annotations.startedWith]: JSON.stringify(started) },
    };
    expect(restartRequired(actionsOn({ ...recorded, metadata }))).toMatchObject({ status: "False" });
  });
});
