import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, RELEASE, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { installArguments } from "../support/install.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { guestAnswers, podOf, testGuest } from "../support/vm.ts";

const chart = join(import.meta.dirname, "..", "..", "charts", "typevisor");

describe("the chart", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("install");
  });
  afterAll(() => cluster.dropNamespace("install"));

  /** The machine in the launcher that it was started in. */
  const unchanged = (before: KubeObject) => ({
    metadata: { uid: before.metadata.uid, generation: 1 },
    status: { podUID: before.status.podUID, startedAt: before.status.startedAt, restarts: 0, reboots: 0 },
  });

  it("upgrades the operator without touching a running VM, says that its launcher is outdated, and rolls back", async () => {
    await kubectl.apply(testGuest("steady"));
    const before = await kubectl.waitFor("vm", "steady", "condition=Ready");
    const changes = ["--set", "operator.podAnnotations.round=two", "--set", "launcher.image.tag=next"];
    await cluster.helm("upgrade", RELEASE, chart, "--reset-then-reuse-values", ...changes, "--wait");
    await kubectl.vmCondition("steady", "RestartRequired", "True", "LauncherOutdated");
    expect(await kubectl.get("vm", "steady")).toMatchObject(unchanged(before));
    await cluster.helm("rollback", RELEASE, "--wait");
    await kubectl.vmCondition("steady", "RestartRequired", "False");
    expect(await kubectl.get("vm", "steady")).toMatchObject(unchanged(before));
  });

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
      expect((await kubectl.get("pod", podOf("steady")))?.metadata.uid).toBe(before.status.podUID);
      await guestAnswers(kubectl, "steady");
      // Nobody of ours is there to let go of anything.
      await cluster.dropNamespace("install-leaves");
    } finally {
      await cluster.helm("upgrade", "--install", RELEASE, chart, ...installArguments);
    }
    await kubectl.vmCondition("steady", "Ready", "True");
    expect(await kubectl.get("vm", "steady")).toMatchObject(unchanged(before));
    await guestAnswers(kubectl, "steady");
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
