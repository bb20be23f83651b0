import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { VirtualMachineMigrationStatus } from "../../crds/src/virtualmachinemigration.ts";
import { versionBefore } from "../../hack/images/version-before.ts";
import { run } from "../../hack/lib/step.ts";
import { CLUSTER_NAME, openTestCluster, RELEASE, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { installArguments } from "../support/install.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { migrationManifest, podOf, tellPod, testGuest } from "../support/vm.ts";

const root = join(import.meta.dirname, "..", "..");
const chart = join(root, "charts", "typevisor");
const definitions = ["virtualmachines", "virtualmachineimages", "virtualmachinemigrations"];
/** 4 MiB of a guest's memory, by which it is known again. */
const MEMORY = "0x1000000 1000 3";

describe("the chart", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    const images = ["launcher-before", "operator-before"].map((name) => join(root, "dist/images", `${name}.tar`));
    await run([join(root, "hack/cluster"), "load-image", "--name", CLUSTER_NAME, ...images], { timeoutMs: 300_000 });
    // As on a cluster that never had another version: with its definitions, and its own authority.
    await cluster.helm("uninstall", RELEASE, "--wait", "--timeout", "2m");
    const crds = definitions.map((name) => `${name}.typevisor.io`);
    await cluster.system.run(["delete", "crd", ...crds, "--timeout=60s"], { timeoutMs: 70_000 });
    await cluster.system.run(["delete", "secret", "typevisor-ca"]);
    await cluster.helm("install", RELEASE, join(await versionBefore(), "charts/typevisor"), ...installArguments);
    kubectl = await cluster.namespace("install");
  });
  afterAll(() => cluster.dropNamespace("install"));

  /** The machine in the launcher that it is in. */
  const unchanged = ({ metadata: { uid }, status: { podUID, startedAt } }: KubeObject) => ({
    metadata: { uid, generation: 1 },
    status: { phase: "Running", podUID, startedAt, restarts: 0, reboots: 0 },
  });
  /** Says a line to the guest in that pod. */
  const tell = (pod: string, line: string, answer: RegExp) => tellPod(kubectl, pod, line, answer);
  const keepsItsMemory = (pod: string) => tell(pod, `check ${MEMORY}`, /check errors 0/);
  const start = async (name: string) => {
    await kubectl.apply(testGuest(name));
    const vm = await kubectl.waitFor("vm", name, "condition=Ready");
    await tell(podOf(name), `fill ${MEMORY}`, /fill done/);
    return vm;
  };
  const migrate = (name: string, spec: { readonly virtualMachineName: string; readonly bandwidth?: string }) =>
    kubectl.apply(migrationManifest(name, { target: { allowSourceNode: true }, ...spec }));
  /** The machine has moved there and is in one pod, without having been started anew. */
  const hasMoved = async (before: KubeObject, podName: string) => {
    const { name } = before.metadata;
    await eventually(`${name} is in ${podName} alone`, 60_000, async () => {
      const pods = await kubectl.list("pods", `typevisor.io/vm=${name}`);
      return pods.map(({ metadata }) => metadata.name).join() === podName;
    });
    await keepsItsMemory(podName);
    const { startedAt } = before.status;
    const vm = await kubectl.get("vm", name);
    expect(vm?.status).toMatchObject({ phase: "Running", podName, startedAt, restarts: 0, reboots: 0 });
    return vm as KubeObject;
  };

  it("upgrades from the version before and rolls back: no machine is restarted, and those that move go on", async () => {
    const [steady, moving] = [await start("steady"), await start("moving")];
    // For a minute, which is longer than it takes to replace the controllers.
    await migrate("under-way", { virtualMachineName: "moving", bandwidth: "128Ki" });
    await eventually("memory is being copied", 120_000, async () => {
      const status = (await kubectl.get("vmm", "under-way"))?.status as VirtualMachineMigrationStatus | undefined;
      return status?.phase === "Copying";
    });
    const upgrade = () => cluster.helm("upgrade", RELEASE, chart, "--reset-then-reuse-values", "--wait");
    await upgrade();
    await kubectl.vmCondition("steady", "RestartRequired", "True", "LauncherOutdated");
    expect(await kubectl.get("vm", "steady")).toMatchObject(unchanged(steady));
    await keepsItsMemory(podOf("steady"));
    await kubectl.waitFor("vmm", "under-way", "condition=Ready", 180_000);
    const moved = await hasMoved(moving, "vm2-moving");
    await kubectl.vmCondition("moving", "RestartRequired", "True", "LauncherOutdated");

    // The way into the new launcher that docs/upgrade.md names.
    const migrateOutdated = ["migrate", "--outdated", "--allow-source-node", "-l", "app=steady"];
    const plugin = [process.execPath, join(root, "dist/cli/kubectl-vm.js"), ...migrateOutdated];
    const said = await run([...plugin, ...kubectl.argv().slice(1)], { timeoutMs: 180_000 });
    expect(said).toMatch(/^install\/steady moved to node \S+$/m);
    const renewed = await hasMoved(steady, "vm2-steady");
    await kubectl.vmCondition("steady", "RestartRequired", "False");

    await cluster.helm("rollback", RELEASE, "--wait");
    await kubectl.vmCondition("steady", "RestartRequired", "True", "LauncherOutdated");
    await kubectl.vmCondition("moving", "RestartRequired", "False");
    expect(await kubectl.get("vm", "steady")).toMatchObject(unchanged(renewed));
    expect(await kubectl.get("vm", "moving")).toMatchObject(unchanged(moved));
    for (const pod of ["vm2-steady", "vm2-moving"]) await keepsItsMemory(pod);

    await upgrade();
    await kubectl.vmCondition("steady", "RestartRequired", "False");
    await kubectl.vmCondition("moving", "RestartRequired", "True", "LauncherOutdated");
    expect(await kubectl.get("vm", "steady")).toMatchObject(unchanged(renewed));
    expect(await kubectl.get("vm", "moving")).toMatchObject(unchanged(moved));
    for (const pod of ["vm2-steady", "vm2-moving"]) await keepsItsMemory(pod);
  }, 600_000);

  it("lets machines go on when it is uninstalled, leaves no namespace behind, and finds them again", async () => {
    const before = await kubectl.waitFor("vm", "steady", "condition=Ready");
    const leaving = await cluster.namespace("install-leaves");
    await leaving.apply(testGuest("gone"));
    await leaving.waitFor("vm", "gone", "condition=Ready");
    try {
      await cluster.helm("uninstall", RELEASE, "--wait", "--timeout", "2m");
      const kinds = "all,networkpolicies,roles,rolebindings,poddisruptionbudgets";
      await eventually("all of the release is gone", 60_000, async () => {
        expect(await cluster.system.run(["get", kinds, "-o", "name"])).toBe("");
        return true;
      });
      expect((await kubectl.get("pod", "vm2-steady"))?.metadata.uid).toBe(before.status.podUID);
      await keepsItsMemory("vm2-steady");
      // Nobody of ours is there to let go of anything.
      await cluster.dropNamespace("install-leaves");
    } finally {
      await cluster.helm("upgrade", "--install", RELEASE, chart, ...installArguments);
    }
    await kubectl.vmCondition("steady", "Ready", "True");
    expect(await kubectl.get("vm", "steady")).toMatchObject(unchanged(before));
    await keepsItsMemory("vm2-steady");
  });

  it("answers on its health and metrics ports", async () => {
    await cluster.system.run(["rollout", "status", "deployment", "--timeout=90s"], { timeoutMs: 100_000 });
    const metrics = await eventually("a controller that answers", 60_000, async () => {
      const pods = await cluster.system.list("pods", "app.kubernetes.io/component=controllers");
      const pod = pods.find(({ metadata }) => metadata.deletionTimestamp === undefined);
      const base = `/api/v1/namespaces/${cluster.system.namespace}/pods/${pod?.metadata.name}:8080/proxy`;
      expect(await cluster.system.run(["get", "--raw", `${base}/readyz`])).toMatch(/ok/);
      return cluster.system.run(["get", "--raw", `${base}/metrics`]);
    });
    expect(metrics).toMatch(/^workqueue_depth/m);
  });
});
