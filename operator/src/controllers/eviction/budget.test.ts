import { describe, expect, it } from "@jest/globals";
import type { StoredVirtualMachine } from "../virtualmachine/observe.ts";
import { at, machine } from "../virtualmachine/testing/fixtures.ts";
import { type Budget, decideBudget } from "./budget.ts";
import { runningMachine } from "./testing/fixtures.ts";

const created = (vm: StoredVirtualMachine): Budget => {
  const [action] = decideBudget(vm, undefined);
  if (action?.kind !== "create") throw new Error("no budget");
  return { ...action.budget, metadata: { ...action.budget.metadata, uid: "budget" } };
};

describe("the PodDisruptionBudget of a machine", () => {
  const vm = runningMachine("LiveMigrate");

  it("lets no pod of it go, and is the machine's own", () => {
    expect(decideBudget(vm, undefined)).toMatchObject([
      {
        kind: "create",
        budget: {
          metadata: { name: "vm-web", namespace: "shop", ownerReferences: [{ name: "web", controller: true }] },
          spec: { minAvailable: 1, selector: { matchLabels: { "typevisor.io/vm": "web" } } },
        },
      },
    ]);
    expect(decideBudget(vm, created(vm))).toEqual([]);
  });

  it("counts both pods while the machine moves", () => {
    const moving = { ...vm, status: { ...vm.status, migration: { name: "m" } } };
    expect(decideBudget(moving, created(vm))).toMatchObject([{ kind: "patch", spec: { minAvailable: 2 } }]);
    expect(decideBudget(vm, created(moving))).toMatchObject([{ kind: "patch", spec: { minAvailable: 1 } }]);
  });

  it.each<[string, StoredVirtualMachine | undefined]>([
    ["that may be stopped", runningMachine("None")],
    ["that is stopped where it cannot move", runningMachine("LiveMigrateIfPossible")],
    ["that does not run", machine({ evictionStrategy: "LiveMigrate" })],
    ["that is being deleted", { ...vm, metadata: { ...vm.metadata, deletionTimestamp: at(0) } }],
    ["that is gone", undefined],
    ["of the same name, but another one", { ...machine(), metadata: { ...vm.metadata, uid: "another" } }],
  ])("is not there for a machine %s", (_, other) => {
    expect(decideBudget(other, undefined)).toEqual([]);
    expect(decideBudget(other, created(vm))).toMatchObject([
      { kind: "delete", budget: { metadata: { uid: "budget" } } },
    ]);
  });

  it("stays while its machine's node does not answer", () => {
    const conditions = vm.status?.conditions?.map((each) => ({ ...each, status: "Unknown" as const })) ?? [];
    const lost = { ...vm, status: { ...vm.status, conditions } };
    expect(decideBudget(lost, created(vm))).toEqual([]);
  });

  it("is not deleted twice", () => {
    const going = created(vm);
    Object.assign(going.metadata ?? {}, { deletionTimestamp: at(0) });
    expect(decideBudget(undefined, going)).toEqual([]);
  });
});
