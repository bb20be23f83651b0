import { beforeEach, describe, expect, it } from "@jest/globals";
import { Registry } from "prom-client";
import type { MigrationPhase } from "../../../crds/src/virtualmachinemigration.ts";
import type { CertificateExpiry } from "../certificates/metrics.ts";
import { type ControllersMetrics, controllersMetrics } from "./metrics.ts";
import { createWorld, type StoredVirtualMachine, type World } from "./virtualmachine/observe.ts";
import { machine, NOW_MS, POD_UID } from "./virtualmachine/testing/fixtures.ts";
import { migrationOf, targetPodOf } from "./virtualmachine/testing/migration-fixtures.ts";

const seconds = (offset: number) => new Date(NOW_MS + offset * 1000).toISOString();

describe("the metrics of the controllers", () => {
  let registry: Registry;
  let world: World;
  let metrics: ControllersMetrics;
  let certificates: CertificateExpiry;
  let nowMs: number;
  beforeEach(() => {
    nowMs = NOW_MS;
    registry = new Registry();
    world = createWorld();
    certificates = { authorityMs: undefined, operatorMs: undefined };
    metrics = controllersMetrics(registry, {
      lease: "the-lease",
      world: () => world,
      certificates: () => certificates,
      webhookNotAfterMs: () => undefined,
      nowMs: () => nowMs,
    });
  });

  /** Samples of one metric, as lines without its name. */
  const samples = async (name: string) =>
    (await registry.metrics())
      .split("\n")
      .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      .map((line) => line.slice(name.length));

  let revision = 1;
  const put = (name: string, status: object) => {
    const vm = machine() as StoredVirtualMachine;
    const metadata = { ...vm.metadata, name, resourceVersion: String(revision++) };
    world.virtualMachines.put({ ...vm, metadata, status } as StoredVirtualMachine);
  };
  const stalled = (reason: string) => ({ phase: "Failed", conditions: [{ type: "Stalled", status: "True", reason }] });

  it("count machines by phase, and those that stand still by reason, until they are gone", async () => {
    put("a", stalled("ClaimNotFound"));
    put("b", stalled("ClaimNotFound"));
    put("c", { phase: "Running", conditions: [{ type: "RestartRequired", status: "True", reason: "SpecChanged" }] });
    expect(await samples("typevisor_virtualmachines")).toEqual(['{phase="Failed"} 2', '{phase="Running"} 1']);
    expect(await samples("typevisor_virtualmachines_stalled")).toEqual(['{reason="ClaimNotFound"} 2']);
    expect(await samples("typevisor_virtualmachines_restart_required")).toEqual(['{reason="SpecChanged"} 1']);
    put("a", { phase: "Running" });
    put("b", { phase: "Running" });
    expect(await samples("typevisor_virtualmachines_stalled")).toEqual([]);
  });

  it("time a first start from creation to pod, running and ready, and no later one", async () => {
    const created = machine() as StoredVirtualMachine;
    const vm = { ...created, metadata: { ...created.metadata, creationTimestamp: seconds(-10) }, status: undefined };
    const { namespace, name } = vm.metadata;
    world.pods.put({
      metadata: { namespace: namespace ?? "", name: `vm-${name}`, uid: POD_UID, creationTimestamp: seconds(-8) },
    });
    const next = {
      restarts: 0,
      podUID: POD_UID,
      startedAt: seconds(-3),
      conditions: [{ type: "Ready", status: "True", reason: "Running" }],
    };
    metrics.virtualMachines.podCreated(vm as never);
    metrics.virtualMachines.statusWritten(vm as never, next as never);
    metrics.virtualMachines.statusWritten(
      { ...vm, status: next } as never,
      { ...next, startedAt: seconds(-1) } as never,
    );
    metrics.virtualMachines.statusWritten(vm as never, { ...next, restarts: 1 } as never);
    const sum = async (name: string) => [...(await samples(`${name}_sum`)), ...(await samples(`${name}_count`))];
    expect(await sum("typevisor_virtualmachine_creation_to_pod_seconds")).toEqual([" 10", " 1"]);
    expect(await sum("typevisor_virtualmachine_creation_to_running_seconds")).toEqual([" 7", " 1"]);
    expect(await sum("typevisor_virtualmachine_pod_to_running_seconds")).toEqual([" 5", " 1"]);
    expect(await sum("typevisor_virtualmachine_creation_to_ready_seconds")).toEqual([" 10", " 1"]);
  });

  it("tell how long migrations have been in a phase, of the longest in each", async () => {
    const longest = () => samples("typevisor_migrations_longest_in_phase_seconds");
    const move = (name: string, phase: MigrationPhase) => {
      const stored = migrationOf({ phase });
      const metadata = { ...stored.metadata, name, uid: `uid-${name}`, resourceVersion: String(revision++) };
      world.migrations.put({ ...stored, metadata });
    };
    move("a", "Copying");
    expect(await longest()).toEqual(['{phase="Copying"} 0']);
    nowMs += 20_000;
    move("b", "Copying");
    expect(await longest()).toEqual(['{phase="Copying"} 20']);
    move("a", "HandingOver");
    nowMs += 5_000;
    expect(await longest()).toEqual(['{phase="HandingOver"} 0', '{phase="Copying"} 5']);
    move("a", "Succeeded");
    move("b", "Failed");
    expect(await longest()).toEqual([]);
    move("b", "Copying");
    expect(await longest()).toEqual(['{phase="Copying"} 0']);
  });

  it("count a migration whose object is gone and whose pod is not as one that is taken back", async () => {
    const vm = machine({ disks: [] });
    const metadata = { ...vm.metadata, resourceVersion: String(revision++) };
    world.virtualMachines.put({ ...vm, metadata } as StoredVirtualMachine);
    const target = targetPodOf(vm, "running");
    world.pods.put({ ...target, metadata: { ...target.metadata, resourceVersion: String(revision++) } });
    expect(await samples("typevisor_migrations")).toEqual(['{phase="Cancelling"} 1']);
    expect(await samples("typevisor_migrations_longest_in_phase_seconds")).toEqual(['{phase="Cancelling"} 0']);
  });

  it("count each result of migrations from the start, so that a first failure is an increase", async () => {
    expect(await samples("typevisor_migrations_total")).toEqual(
      ["Succeeded", "Failed", "Cancelled"].map((result) => `{result="${result}"} 0`),
    );
    metrics.migrations.statusWritten(migrationOf({ phase: "Copying" }), { phase: "Failed" });
    metrics.migrations.statusWritten(migrationOf({ phase: "Failed" }), { phase: "Failed" });
    expect(await samples("typevisor_migrations_total")).toContain('{result="Failed"} 1');
  });

  it("count machines whose certificate should have been renewed", async () => {
    const pod = (name: string, renewAt: string) => ({
      metadata: { namespace: "shop", name, annotations: { "typevisor.io/certificate-renew-at": renewAt } },
    });
    world.pods.put(pod("late", seconds(-1)));
    world.pods.put(pod("fine", seconds(1)));
    world.pods.put({ metadata: { namespace: "shop", name: "without" } });
    expect(await samples("typevisor_machine_certificates_overdue")).toEqual([" 1"]);
  });

  it("tell when certificates end, of those that are known", async () => {
    expect(await samples("typevisor_certificate_expiry_timestamp_seconds")).toEqual([]);
    certificates = { authorityMs: 5000, operatorMs: undefined };
    expect(await samples("typevisor_certificate_expiry_timestamp_seconds")).toEqual(['{certificate="authority"} 5']);
  });

  it("tell who leads, under client-go's name", async () => {
    expect(await samples("leader_election_master_status")).toEqual(['{name="the-lease"} 0']);
    metrics.leads(true);
    expect(await samples("leader_election_master_status")).toEqual(['{name="the-lease"} 1']);
  });
});
