import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, RELEASE, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { testGuest } from "../support/vm.ts";

const chart = join(import.meta.dirname, "..", "..", "charts", "typevisor");

describe("the chart", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("install");
  });
  afterAll(() => cluster.dropNamespace("install"));

  it("upgrades the operator without touching a running VM", async () => {
    await kubectl.apply(testGuest("steady"));
    const before = await kubectl.waitFor("vm", "steady", "condition=Ready");
    await cluster.helm(
      "upgrade",
      RELEASE,
      chart,
      "--reuse-values",
      "--set",
      "operator.podAnnotations.round=two",
      "--wait",
    );
    await cluster.helm("rollback", RELEASE, "--wait");
    const after = await kubectl.get("vm", "steady");
    expect(after?.status.podUID).toBe(before.status.podUID);
    expect(after?.status.restarts ?? 0).toBe(0);
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
