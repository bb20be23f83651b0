import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { fetchFrom, runIn, toolboxPod } from "../support/toolbox.ts";
import { guestAnswers, podOf, testGuest } from "../support/vm.ts";

const times = { periodSeconds: 1, failureThreshold: 2 };

/** The test guest has no network stack: what guests do with theirs is tested with Linux, on the quickstart's cluster. */
describe("a machine on the pod network", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("network");
    await kubectl.apply(toolboxPod("toolbox"));
    await kubectl.apply({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "machines" },
      spec: { clusterIP: "None", selector: { tier: "web" } },
    });
    await kubectl.apply(testGuest("plain", { template: { spec: { hostname: "web-0", subdomain: "machines" } } }));
    await kubectl.waitFor("pod", "toolbox", "condition=Ready");
    await kubectl.waitFor("vm", "plain", "condition=Ready");
  });
  afterAll(() => cluster.dropNamespace("network"));

  const merge = (name: string, patch: object) =>
    kubectl.run(["patch", "vm", name, "--type=merge", "-p", JSON.stringify(patch)]);
  const interfaceOf = async (name: string) => (await kubectl.get("vm", name))?.status.interfaces?.[0];

  it("has one interface by default, with the pod's address and a MAC address that outlives the pod", async () => {
    const vm = await kubectl.get("vm", "plain");
    const first = vm?.status.interfaces?.[0];
    expect(vm?.spec["interfaces"]).toBeUndefined();
    expect(first).toMatchObject({ name: "default", state: "Up", ipAddresses: [vm?.status.podIP] });
    expect(first?.mac).toMatch(/^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
    await kubectl.run(["delete", "pod", podOf("plain")]);
    await eventually("another run", 90_000, async () => {
      const next = await kubectl.get("vm", "plain");
      return next?.status.podUID !== vm?.status.podUID && next?.status.phase === "Running";
    });
    expect((await interfaceOf("plain"))?.mac).toBe(first?.mac);
  });

  it("keeps the launcher's own ports reachable, and its cable is pulled and plugged without a restart", async () => {
    const before = await kubectl.get("vm", "plain");
    const launcherAnswers = () => fetchFrom(kubectl, "toolbox", `http://${before?.status.podIP}:10080/metrics`);
    const pull = async (state: "Up" | "Down") => {
      await merge("plain", { spec: { interfaces: [{ name: "default", masquerade: {}, state }] } });
      await eventually(`the cable is ${state}`, 60_000, async () => (await interfaceOf("plain"))?.state === state);
      expect(await launcherAnswers()).toContain("typevisor_vm_");
      await kubectl.vmCondition("plain", "RestartRequired", "False");
    };
    await pull("Down");
    await pull("Up");
    expect((await kubectl.get("vm", "plain"))?.status.podUID).toBe(before?.status.podUID);
  });

  it("needs a restart for another binding, and says so", async () => {
    await merge("plain", { spec: { interfaces: [{ name: "default", podIP: {} }] } });
    const condition = await kubectl.vmCondition("plain", "RestartRequired", "True", "SpecChanged");
    expect(condition.message).toContain("spec.interfaces[default]");
  });

  it("is in a Service as soon as its labels say so, by its own name", async () => {
    const name = "web-0.machines.network.svc.cluster.local";
    expect(await runIn(kubectl, "toolbox", `nslookup ${name} || true`)).not.toContain("10.244.");
    await kubectl.run(["label", "vm", "plain", "tier=web"]);
    await eventually("the name is known", 60_000, async () => {
      const ip = (await kubectl.get("vm", "plain"))?.status.podIP ?? "?";
      return (await runIn(kubectl, "toolbox", `nslookup ${name} || true`)).includes(ip);
    });
    await kubectl.run(["label", "vm", "plain", "tier-"]);
    await eventually("the label is gone", 60_000, async () => {
      return (await kubectl.get("pod", podOf("plain")))?.metadata.labels?.["tier"] === undefined;
    });
  });

  it("does without a network where the list is empty", async () => {
    await kubectl.apply(testGuest("alone", { interfaces: [] }));
    const vm = await kubectl.waitFor("vm", "alone", "condition=Ready");
    expect(vm.status.interfaces ?? []).toEqual([]);
    await guestAnswers(kubectl, "alone");
  });

  it("has the pod's own address and MAC where it is to, and its launcher stays reachable", async () => {
    await kubectl.apply(testGuest("own", { interfaces: [{ name: "default", podIP: {} }] }));
    const vm = await kubectl.waitFor("vm", "own", "condition=Ready");
    expect(vm.status.interfaces?.[0]).toMatchObject({ state: "Up", ipAddresses: [vm.status.podIP] });
    expect(await fetchFrom(kubectl, "toolbox", `http://${vm.status.podIP}:10080/metrics`)).toContain("typevisor_vm_");
    await guestAnswers(kubectl, "own");
  });

  it("runs and is not ready while its guest does not answer the readinessProbe", async () => {
    await kubectl.apply(testGuest("deaf", { readinessProbe: { tcpSocket: { port: 80 }, ...times } }));
    const ready = await kubectl.vmCondition("deaf", "Ready", "False", "GuestNotReady");
    expect(ready.message).toMatch(/tcpSocket of port 80/);
    await kubectl.vmCondition("deaf", "Running", "True");
    expect((await kubectl.get("vm", "deaf"))?.status.phase).toBe("Running");
  });

  it("is given up and started again when its guest does not answer the livenessProbe", async () => {
    const livenessProbe = { tcpSocket: { port: 80 }, ...times };
    await kubectl.apply(testGuest("dead", { runStrategy: "RerunOnFailure", livenessProbe }));
    await eventually("the guest is given up", 90_000, async () => {
      const { lastTermination, consecutiveCrashes } = (await kubectl.get("vm", "dead"))?.status ?? {};
      return lastTermination?.reason === "LivenessProbeFailed" && (consecutiveCrashes ?? 0) > 0;
    });
    await eventually("it is started again", 90_000, async () => {
      return ((await kubectl.get("vm", "dead"))?.status.restarts ?? 0) > 0;
    });
  });
});
