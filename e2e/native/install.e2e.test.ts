import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, RELEASE, type TestCluster } from "../support/cluster.ts";
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
    const [pod] = await cluster.system.list("pods", "app.kubernetes.io/component=controllers");
    const base = `/api/v1/namespaces/${cluster.system.namespace}/pods/${pod?.metadata.name}`;
    expect(await cluster.system.run(["get", "--raw", `${base}:8080/proxy/readyz`])).toMatch(/ok/);
    expect(await cluster.system.run(["get", "--raw", `${base}:8080/proxy/metrics`])).toMatch(/^workqueue_depth/m);
  });
});
