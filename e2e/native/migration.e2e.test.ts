import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { VirtualMachineMigrationStatus } from "../../crds/src/virtualmachinemigration.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { StaticVolumes } from "../support/static-volumes.ts";
import { migrationManifest, podOf, tellPod, testGuest } from "../support/vm.ts";

type Migration = KubeObject<VirtualMachineMigrationStatus>;

/** On one node, so machines move to another pod of it, which they may when asked. Between nodes: e2e/nodes. */
describe("a machine that migrates", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let volumes: StaticVolumes;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("migration");
    volumes = new StaticVolumes(kubectl, "typevisor-migration");
    await kubectl.apply({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "mover" },
      spec: { selector: { app: "mover" }, ports: [{ port: 80 }] },
    });
    await kubectl.apply(testGuest("mover", { disks: [{ name: "scratch", emptyDisk: { size: "16Mi" } }] }));
    await kubectl.waitFor("vm", "mover", "condition=Migratable");
  });
  afterAll(async () => {
    await cluster.dropNamespace("migration");
    await volumes[Symbol.asyncDispose]();
  });

  /** A claim of mode Block for a device that is full of something. */
  const deviceClaim = (name: string) => volumes.deviceClaim(name, 65, 0xee);

  const migrate = (name: string, spec: object = {}) =>
    kubectl.apply(migrationManifest(name, { virtualMachineName: "mover", target: { allowSourceNode: true }, ...spec }));
  const migration = async (name: string) => (await kubectl.get("vmm", name)) as Migration | null;
  const phaseOf = async (name: string) => (await migration(name))?.status.phase;
  const launchers = async (name: string) =>
    (await kubectl.list("pods", `typevisor.io/vm=${name}`)).map(({ metadata }) => metadata.name);
  /** Says a line to the guest in that pod. */
  const tell = (pod: string, line: string, answer: RegExp) => tellPod(kubectl, pod, line, answer);
  const endpoints = async () => {
    const slices = await kubectl.list("endpointslices", "kubernetes.io/service-name=mover");
    const all = slices as unknown as { endpoints?: { addresses: string[]; conditions?: { ready?: boolean } }[] }[];
    return all.flatMap((slice) => slice.endpoints ?? []).filter(({ conditions }) => conditions?.ready === true);
  };

  it("goes on in another pod with all that it was doing, and the Service follows", async () => {
    const before = await kubectl.get("vm", "mover");
    await tell(podOf("mover"), "fill 0x1000000 1000 3", /fill done/);
    await tell(podOf("mover"), "blkwrite 0 3 99", /blkwrite status 0/);
    await tell(podOf("mover"), "timer 3000000 1", /timer runs/);
    await tell(podOf("mover"), "load 0x800000 300", /load runs/);
    await migrate("there");
    await kubectl.waitFor("vmm", "there", "condition=Ready", 180_000);
    const { status } = (await migration("there")) as Migration;
    expect(status).toMatchObject({
      phase: "Succeeded",
      source: { podName: "vm-mover", podUID: before?.status.podUID },
      target: { podName: "vm2-mover", node: before?.status.node },
      result: { downtimeMilliseconds: expect.any(Number), rounds: expect.any(Number) },
    });
    expect(status.result?.downtimeMilliseconds).toBeGreaterThan(0);
    const vm = await eventually("the machine is in its new pod", 60_000, async () => {
      const seen = await kubectl.get("vm", "mover");
      return seen?.status.podName === "vm2-mover" && seen.status.phase === "Running" ? seen : null;
    });
    const { startedAt, restarts } = before?.status ?? {};
    expect(vm.status).toMatchObject({ startedAt, restarts, podUID: status.target?.podUID });
    expect(vm.status.lastMigration).toMatchObject({ name: "there", phase: "Succeeded" });
    expect(await launchers("mover")).toEqual(["vm2-mover"]);
    await tell("vm2-mover", "stop", /load rounds \d+ errors 0 backward 0 .* ticks [1-9]/);
    await tell("vm2-mover", "check 0x1000000 1000 3", /check errors 0/);
    await tell("vm2-mover", "blkread 0 3", /blkread status 0 data 0x63/);
    await eventually("the Service leads to the new pod alone", 60_000, async () => {
      const ready = await endpoints();
      return ready.length === 1 && ready[0]?.addresses.includes(vm.status.podIP ?? "?");
    });
    const events = (await kubectl.events("mover")).map(({ reason }) => reason);
    expect(events).toEqual(expect.arrayContaining(["Migrating", "MigrationSucceeded"]));
  });

  it("stays where it is when the migration is deleted in the middle, and nothing is left of it", async () => {
    const before = await kubectl.get("vm", "mover");
    await migrate("slow", { bandwidth: "64Ki" });
    await eventually("memory is being copied", 120_000, async () => (await phaseOf("slow")) === "Copying");
    await kubectl.vmCondition("mover", "Migrating", "True", "Migrating");
    await kubectl.run(["delete", "vmm", "slow", "--timeout=60s"], { timeoutMs: 70_000 });
    await kubectl.vmCondition("mover", "Migrating", "False");
    await eventually("one pod is left", 60_000, async () => (await launchers("mover")).join() === "vm2-mover");
    const vm = await kubectl.get("vm", "mover");
    expect(vm?.status).toMatchObject({ podUID: before?.status.podUID, phase: "Running", restarts: 0 });
    await tell("vm2-mover", "check 0x1000000 1000 3", /check errors 0/);
  });

  it("moves back while controllers and node agent are killed, and is restarted in its first pod when it is started again", async () => {
    const { startedAt, restarts } = (await kubectl.get("vm", "mover"))?.status ?? {};
    await migrate("back", { bandwidth: "512Ki" });
    await eventually("memory is being copied", 120_000, async () => (await phaseOf("back")) === "Copying");
    for (const component of ["controllers", "node"]) {
      const pods = await cluster.system.list("pods", `app.kubernetes.io/component=${component}`);
      const kills = pods.map(({ metadata }) => cluster.killPod(cluster.system, metadata.name, /node/));
      expect((await Promise.all(kills)).some((killed) => killed > 0)).toBe(true);
    }
    expect(await phaseOf("back")).toBe("Copying");
    await kubectl.waitFor("vmm", "back", "condition=Ready", 180_000);
    expect((await migration("back"))?.status.phase).toBe("Succeeded");
    expect((await kubectl.get("vm", "mover"))?.status).toMatchObject({ startedAt, restarts });
    expect(await launchers("mover")).toEqual(["vm-mover"]);
    await tell("vm-mover", "check 0x1000000 1000 3", /check errors 0/);
    const strategy = (runStrategy: string) =>
      kubectl.run(["patch", "vm", "mover", "--type=merge", "-p", JSON.stringify({ spec: { runStrategy } })]);
    await strategy("Halted");
    await eventually("it is off", 60_000, async () => (await launchers("mover")).length === 0);
    await migrate("off");
    const off = await kubectl.waitFor("vmm", "off", "condition=Stalled");
    expect(JSON.stringify(off.status)).toContain("MachineNotRunning");
    await strategy("Always");
    await kubectl.waitFor("vm", "mover", "condition=Ready", 90_000);
    expect(await launchers("mover")).toEqual(["vm-mover"]);
  });

  it("says why it cannot move", async () => {
    await migrate("nowhere", { target: { nodeName: "no-such-node" } });
    await kubectl.waitFor("vmm", "nowhere", "condition=Stalled");
    const ready = (await migration("nowhere"))?.status.conditions?.find(({ type }) => type === "Ready");
    expect(ready).toMatchObject({ reason: "TargetInvalid", message: expect.stringContaining("no-such-node") });
    await kubectl.apply(testGuest("bound", { interfaces: [{ name: "default", podIP: {} }] }));
    await kubectl.waitFor("vm", "bound", "condition=Ready");
    await migrate("bound", { virtualMachineName: "bound" });
    const bound = await kubectl.waitFor("vmm", "bound", "condition=Stalled");
    expect(JSON.stringify(bound.status)).toMatch(/NotMigratable.*Interface default has the pod's own address/);
  });

  it("moves its disk to another claim, and is started from there, whatever its spec names", async () => {
    for (const name of ["root-1", "root-2"]) {
      await kubectl.apply({
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: { name },
        spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "64Mi" } } },
      });
    }
    const disks = (claimName: string) => [{ name: "root", persistentVolumeClaim: { claimName } }];
    await kubectl.apply(testGuest("disky", { disks: disks("root-1") }));
    const condition = await kubectl.vmCondition("disky", "Migratable", "False", "TargetClaimsNeeded");
    expect(condition.message).toMatch(/Disk root is on claim root-1, which is ReadWriteOnce.*spec\.targetClaims/);
    await tell(podOf("disky"), "blkwrite 0 20000 77", /blkwrite status 0/);

    const targetClaims = [{ disk: "root", claimName: "root-2" }];
    await migrate("taken-back", { virtualMachineName: "disky", targetClaims, bandwidth: "64Ki" });
    await eventually("memory is being copied", 120_000, async () => (await phaseOf("taken-back")) === "Copying");
    await kubectl.run(["delete", "vmm", "taken-back", "--timeout=60s"], { timeoutMs: 70_000 });
    await eventually("nothing is left of it", 60_000, async () => {
      const moved: unknown = (await kubectl.get("vm", "disky"))?.status.movedDisks;
      return moved === undefined && (await launchers("disky")).join() === "vm-disky";
    });

    await tell(podOf("disky"), "blkjournal 0 1 300", /durable 5\b/);
    await migrate("claims", { virtualMachineName: "disky", targetClaims });
    await kubectl.waitFor("vmm", "claims", "condition=Ready", 180_000);
    await tell("vm2-disky", "echo moved", /blkjournal done[\s\S]*moved/);
    const isOn = async (claimName: string, podName: string) => {
      const vm = await kubectl.get("vm", "disky");
      return (
        vm?.status.volumes?.[0]?.claimName === claimName &&
        vm.status.podName === podName &&
        vm.status.phase === "Running"
      );
    };
    await eventually("it is on the other claim", 60_000, () => isOn("root-2", "vm2-disky"));
    await kubectl.run(["delete", "pod", "vm2-disky"], { timeoutMs: 60_000 });
    await eventually("it is started again from there", 120_000, () => isOn("root-2", "vm-disky"));
    await tell("vm-disky", "blkread 0 20000", /blkread status 0 data 0x4d/);

    await kubectl.apply(testGuest("disky", { disks: disks("root-2") }));
    await kubectl.vmCondition("disky", "RestartRequired", "False");
    await tell("vm-disky", "blkread 0 20000", /blkread status 0 data 0x4d/);

    // On to a device, which is full of an older disk.
    await deviceClaim("root-3");
    const onward = { virtualMachineName: "disky", targetClaims: [{ disk: "root", claimName: "root-3" }] };
    await migrate("device", onward);
    await kubectl.waitFor("vmm", "device", "condition=Ready", 180_000);
    await eventually("it is on the device", 60_000, () => isOn("root-3", "vm2-disky"));
    await tell("vm2-disky", "blkread 0 20000", /blkread status 0 data 0x4d/);
    await tell("vm2-disky", "blkread 0 100000", /blkread status 0 data 0x0\b/);
    await tell("vm2-disky", "blkwrite 0 0 78", /blkwrite status 0/);
    await kubectl.run(["delete", "pod", "vm2-disky"], { timeoutMs: 60_000 });
    await eventually("it is started again from there", 120_000, () => isOn("root-3", "vm-disky"));
    await tell("vm-disky", "blkread 0 0", /blkread status 0 data 0x4e/);
    await tell("vm-disky", "blkread 0 20000", /blkread status 0 data 0x4d/);
  });

  it("waits for another node where there is none, and tells that nobody has room", async () => {
    await migrate("elsewhere", { target: {} });
    await eventually("the scheduler's word", 60_000, async () => {
      const ready = (await migration("elsewhere"))?.status.conditions?.find(({ type }) => type === "Ready");
      return ready?.reason === "MigrationPreparing" && /cannot be placed/.test(ready.message);
    });
    await kubectl.run(["delete", "vmm", "elsewhere", "--timeout=60s"], { timeoutMs: 70_000 });
    await eventually("one pod is left", 60_000, async () => (await launchers("mover")).join() === "vm-mover");
    expect((await kubectl.get("vm", "mover"))?.status.podName).toBe("vm-mover");
  });

  describe("while there are no controllers", () => {
    const scale = (replicas: number) =>
      cluster.system.run(["scale", "deployment/typevisor-operator", `--replicas=${replicas}`]);
    const gone = async () => {
      await scale(0);
      const operators = ["wait", "pod", "-l", "app.kubernetes.io/component=controllers", "--for=delete"];
      await cluster.system.run([...operators, "--timeout=90s"], { timeoutMs: 100_000 });
    };
    const back = async () => {
      await scale(2);
      const rollout = ["rollout", "status", "deployment/typevisor-operator", "--timeout=120s"];
      await cluster.system.run(rollout, { timeoutMs: 130_000 });
    };
    /** For a minute: what the guest has written is 4 MiB. */
    const copying = async (name: string) => {
      await tell("vm-mover", "fill 0x1000000 1000 3", /fill done/);
      await migrate(name, { bandwidth: "64Ki" });
      await eventually("memory is being copied", 120_000, async () => (await phaseOf(name)) === "Copying");
    };

    it("loses its migration, runs on, and is in one pod once there are some again", async () => {
      const before = await kubectl.get("vm", "mover");
      await copying("left");
      await gone();
      try {
        await kubectl.run(["delete", "vmm", "left", "--timeout=30s"], { timeoutMs: 40_000 });
        await tell("vm-mover", "check 0x1000000 1000 3", /check errors 0/);
        expect((await launchers("mover")).sort()).toEqual(["vm-mover", "vm2-mover"]);
      } finally {
        await back();
      }
      await eventually("one pod is left", 60_000, async () => (await launchers("mover")).join() === "vm-mover");
      await kubectl.vmCondition("mover", "Migrating", "False");
      const { podUID, restarts } = before?.status ?? {};
      expect((await kubectl.get("vm", "mover"))?.status).toMatchObject({ podUID, restarts, phase: "Running" });
    });

    it("goes with its namespace in the middle of a migration", async () => {
      await copying("last");
      await gone();
      try {
        await cluster.dropNamespace("migration");
        expect(await cluster.system.get("namespace", "migration")).toBeNull();
      } finally {
        await back();
      }
    });
  });
});
