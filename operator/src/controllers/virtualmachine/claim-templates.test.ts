import { describe, expect, it } from "@jest/globals";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { ClaimFacts, Claims } from "./claims.ts";
import { decide } from "./decide.ts";
import { driftedFields, fieldDigests } from "./drift.ts";
import type { Observation } from "./observation.ts";
import type { Action } from "./plan.ts";
import { at, claim, launcherSays, machine, NOW_MS, observation, podOf, settings, VM_UID } from "./testing/fixtures.ts";
import { Simulation } from "./testing/simulation.ts";

const GIB = 2 ** 30;
type Templates = NonNullable<VirtualMachineSpec["volumeClaimTemplates"]>;
const templates = (storage = "10Gi"): Templates => [
  {
    metadata: { name: "data", labels: { tier: "db" } },
    spec: {
      accessModes: ["ReadWriteOnce"],
      volumeMode: "Block",
      storageClassName: "fast",
      resources: { requests: { storage } },
    },
  },
];
const withTemplate = (changes: Partial<VirtualMachineSpec> = {}) =>
  machine({
    disks: [{ name: "root", readOnly: false, volumeClaimTemplate: { name: "data" } }],
    volumeClaimTemplates: templates(),
    ...changes,
  });
const whenDeleted = (policy: "Delete" | "Retain") => ({
  persistentVolumeClaimRetentionPolicy: { whenDeleted: policy },
});
const made = (changes: Partial<ClaimFacts> = {}): Claims => ({
  "data-web": claim("data-web", { mode: "Block", vmName: "web", ...changes }),
});
const actionsOf = (o: Observation, nowMs = NOW_MS) => decide(o, settings, nowMs).actions;
const applied = (actions: readonly Action[]) =>
  actions.flatMap((action) => (action.kind === "apply-claim" ? [action] : []));

describe("the claim of a template", () => {
  it("is made before the machine is started, with the machine's name in its own", () => {
    expect(actionsOf(observation(withTemplate()))).toEqual([
      {
        kind: "apply-claim",
        isNew: true,
        requestBytes: 10 * GIB,
        claim: {
          metadata: {
            name: "data-web",
            namespace: "shop",
            labels: { tier: "db", "app.kubernetes.io/managed-by": "typevisor", "typevisor.io/vm": "web" },
          },
          spec: {
            accessModes: ["ReadWriteOnce"],
            volumeMode: "Block",
            storageClassName: "fast",
            resources: { requests: { storage: "10Gi" } },
          },
        },
      },
    ]);
  });

  it("is what its disk is on", () => {
    const [start] = actionsOf(observation(withTemplate(), { claims: made() }));
    expect(start).toMatchObject({ kind: "start", claims: made() });
  });

  it.each(["Halted", "Always"] as const)("is not made for a machine that is not to start (%s)", (runStrategy) => {
    const vm = withTemplate({ runStrategy });
    if (runStrategy === "Always") vm.metadata.deletionTimestamp = at(-1);
    expect(applied(actionsOf(observation(vm)))).toEqual([]);
  });

  it("belongs to the machine where it shall go with it, and to nobody where not", () => {
    const [action] = applied(actionsOf(observation(withTemplate(whenDeleted("Delete")))));
    expect(action?.claim.metadata?.ownerReferences).toMatchObject([{ kind: "VirtualMachine", uid: VM_UID }]);
    const later = (policy: "Delete" | "Retain", owners: string[]) =>
      applied(actionsOf(observation(withTemplate(whenDeleted(policy)), { claims: made({ owners }) }))).map(
        (each) => each.claim.metadata?.ownerReferences?.length ?? 0,
      );
    expect(later("Delete", [])).toEqual([1]);
    expect(later("Delete", [VM_UID])).toEqual([]);
    expect(later("Retain", [VM_UID])).toEqual([0]);
    expect(later("Retain", [])).toEqual([]);
  });

  it("grows with its template, while the machine runs, and needs no restart", () => {
    const before = withTemplate();
    const pod = podOf(before, "running", made());
    const vm = withTemplate({ volumeClaimTemplates: templates("20Gi") });
    const claims = made();
    const [action] = applied(actionsOf(observation(vm, { pod, claims, launcher: launcherSays(pod, {}) })));
    expect(action).toMatchObject({ isNew: false, requestBytes: 20 * GIB });
    expect(driftedFields(pod, fieldDigests(vm.spec, settings))).toEqual([]);
  });

  it("never shrinks", () => {
    const larger = made({ requestBytes: 30 * GIB });
    expect(applied(actionsOf(observation(withTemplate(), { claims: larger })))).toEqual([]);
    const vm = withTemplate(whenDeleted("Delete"));
    expect(applied(actionsOf(observation(vm, { claims: larger })))[0]?.claim.spec?.resources).toEqual({
      requests: { storage: "30Gi" },
    });
  });

  it("that somebody else made is used and left as it is", () => {
    const vm = withTemplate({ volumeClaimTemplates: templates("20Gi"), ...whenDeleted("Delete") });
    expect(actionsOf(observation(vm, { claims: made({ vmName: undefined }) })).map(({ kind }) => kind)).toEqual([
      "start",
    ]);
  });

  it("that may not grow is left for a while, and the disk says why", () => {
    const vm = withTemplate({ volumeClaimTemplates: templates("20Gi") });
    const pod = podOf(withTemplate(), "running", made());
    const claimRefusals = { "data-web": { requestBytes: 20 * GIB, message: "no expansion", atMs: NOW_MS } };
    const seen = observation(vm, { pod, claims: made(), claimRefusals, launcher: launcherSays(pod, {}) });
    const decision = decide(seen, settings, NOW_MS);
    expect(applied(decision.actions)).toEqual([]);
    expect(decision.wakeAtMs ?? Number.POSITIVE_INFINITY).toBeLessThanOrEqual(NOW_MS + 300_000);
    const status = decision.actions.flatMap((action) => (action.kind === "write-status" ? [action.status] : []))[0];
    expect(status?.volumes).toMatchObject([{ name: "root", claimName: "data-web", message: "no expansion" }]);
    expect(applied(actionsOf(seen, NOW_MS + 300_000))).toHaveLength(1);
    const more = { ...seen, vm: withTemplate({ volumeClaimTemplates: templates("30Gi") }) };
    expect(applied(actionsOf(more))).toHaveLength(1);
    const goes = { ...seen, vm: withTemplate({ volumeClaimTemplates: templates("20Gi"), ...whenDeleted("Delete") }) };
    expect(applied(actionsOf(goes))).toMatchObject([{ requestBytes: 10 * GIB }]);
    // Neither may its owner change: then nothing is tried for a while.
    const neither = { "data-web": { requestBytes: 10 * GIB, message: "no", atMs: NOW_MS } };
    expect(applied(actionsOf({ ...goes, claimRefusals: neither }))).toEqual([]);
  });

  it("cannot be another disk's claim as well", () => {
    const vm = withTemplate();
    vm.spec.disks.push({ name: "copy", readOnly: false, persistentVolumeClaim: { claimName: "data-web" } });
    const decision = decide(observation(vm, { claims: made() }), settings, NOW_MS);
    const status = decision.actions.flatMap((action) => (action.kind === "write-status" ? [action.status] : []))[0];
    expect(status?.conditions?.[0]).toMatchObject({
      reason: "SpecInvalid",
      message: expect.stringMatching(/spec\.disks\[copy\] is on PersistentVolumeClaim data-web, as disk root is/),
    });
  });
});

describe("in a cluster, the claim of a template", () => {
  const create = (simulation: Simulation) => {
    const { uid: _uid, generation: _generation, ...metadata } = withTemplate().metadata;
    simulation.server.write("virtualmachines", { ...withTemplate(), metadata });
  };
  const phase = (simulation: Simulation) => simulation.machine("web")?.status?.phase;
  const ready = (simulation: Simulation) =>
    simulation.machine("web")?.status?.conditions?.find((condition) => condition.type === "Ready");

  it("is there before the machine's pod, once, and outlives it", async () => {
    await using simulation = await Simulation.start();
    create(simulation);
    await simulation.until("it runs", () => phase(simulation) === "Running");
    expect(simulation.server.all("persistentvolumeclaims").map((each) => each.metadata?.name)).toEqual(["data-web"]);
    expect(simulation.events.filter((event) => event.reason === "ClaimCreated")).toHaveLength(1);
    simulation.server.erase("virtualmachines", "shop", "web");
    await simulation.until("its pod is gone", () => simulation.server.all("pods").length === 0);
    expect(simulation.server.all("persistentvolumeclaims")).toHaveLength(1);
  });

  it.each([
    ["QuotaExceeded", { code: 403, reason: "Forbidden", message: "exceeded quota: storage" }],
    ["SpecInvalid", { code: 422, reason: "Invalid", message: "spec.storageClassName: Invalid value" }],
  ])("that the API server will not have is told as %s, and made when it may be", async (reason, status) => {
    await using simulation = await Simulation.start();
    simulation.server.admit = (plural) => (plural === "persistentvolumeclaims" ? status : undefined);
    create(simulation);
    await simulation.until("the refusal is told", () => ready(simulation)?.reason === reason);
    expect(ready(simulation)?.message).toContain("PersistentVolumeClaim data-web cannot be made");
    simulation.server.admit = undefined;
    await simulation.until("it runs", () => phase(simulation) === "Running");
  });
});
