import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { guestAnswers, podOf, testGuest } from "../support/vm.ts";

describe("when parts of the system fail", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let bystanderUid: string | undefined;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("faults");
    await kubectl.apply(testGuest("bystander"));
    bystanderUid = (await kubectl.waitFor("vm", "bystander", "condition=Ready")).status.podUID;
  });
  afterAll(() => cluster.dropNamespace("faults"));

  const bystanderRunsOn = async () => {
    const pod = await kubectl.get("pod", podOf("bystander"));
    expect(pod?.metadata.uid).toBe(bystanderUid);
    await guestAnswers(kubectl, "bystander");
  };
  const startsANewOne = async (name: string) => {
    await kubectl.apply(testGuest(name));
    await kubectl.waitFor("vm", name, "condition=Ready", 120_000);
    await cluster.deleteVm(kubectl, name);
  };

  it("a launcher killed with SIGKILL is a crash: the VM backs off, says so, and runs again", async () => {
    await kubectl.apply(testGuest("killed"));
    const first = await kubectl.waitFor("vm", "killed", "condition=Ready");
    expect(await cluster.killPod(kubectl, podOf("killed"), /launcher/)).toBe(1);
    await kubectl.vmCondition("killed", "Ready", "False");
    const vm = await eventually("another run", 90_000, async () => {
      const seen = await kubectl.get("vm", "killed");
      return seen?.status.phase === "Running" && seen.status.podUID !== first.status.podUID ? seen : null;
    });
    expect(vm.status).toMatchObject({ restarts: 1, lastTermination: { reason: "LauncherKilled" } });
    await bystanderRunsOn();
  });

  it("an operator killed in the middle of starts carries on, and touches no running VM", async () => {
    const names = ["one", "two", "three"];
    let kills = 0;
    for (const name of names) {
      await kubectl.apply(testGuest(name));
      const pods = await cluster.system.list("pods", "app.kubernetes.io/component=controllers");
      // One that is down already, waiting for its back-off, is as good as killed.
      for (const pod of pods) kills += await cluster.killPod(cluster.system, pod.metadata.name, /operator/);
    }
    expect(kills).toBeGreaterThan(0);
    for (const name of names) await kubectl.waitFor("vm", name, "condition=Ready", 180_000);
    for (const name of names) expect((await kubectl.list("pods", `typevisor.io/vm=${name}`)).length).toBe(1);
    await bystanderRunsOn();
    for (const name of names) await cluster.deleteVm(kubectl, name);
  });

  it("an API server that restarts is found again", async () => {
    await cluster.restart("kube-apiserver");
    await bystanderRunsOn();
    await startsANewOne("after-apiserver");
  });

  it("a kubelet that restarts finds the device plugin again", async () => {
    await cluster.restart("kubelet");
    await bystanderRunsOn();
    await startsANewOne("after-kubelet");
  });

  it("a node agent that restarts changes nothing for running VMs", async () => {
    await cluster.system.run(["rollout", "restart", "daemonset", "-l", "app.kubernetes.io/component=node"]);
    await cluster.system.run(
      ["rollout", "status", "daemonset", "-l", "app.kubernetes.io/component=node", "--timeout=90s"],
      {
        timeoutMs: 100_000,
      },
    );
    await bystanderRunsOn();
    await startsANewOne("after-agent");
  });

  it("a node without /dev/kvm takes no VM and says what to look at, and takes it once it has one", async () => {
    const [agent] = await cluster.system.list("daemonset", "app.kubernetes.io/component=node");
    const name = agent?.metadata.name ?? "none";
    const args = "/spec/template/spec/containers/0/args/-";
    const patch = JSON.stringify([{ op: "add", path: args, value: "--kvm-path=/dev/not-there" }]);
    await cluster.system.run(["patch", "daemonset", name, "--type=json", "-p", patch]);
    const devices = ["get", "nodes", "-o", "jsonpath={.items[*].status.allocatable.devices\\.typevisor\\.io/kvm}"];
    await eventually("the node offers no device", 180_000, async () => (await cluster.system.run(devices)) === "0");
    await kubectl.apply(testGuest("without-kvm"));
    const ready = await kubectl.vmCondition("without-kvm", "Ready", "False", "Unschedulable", 120_000);
    expect(ready.message).toMatch(/no node offers it.*typevisor-node.*\/dev\/kvm/);
    await eventually("an event that says so", 30_000, async () =>
      (await kubectl.events("without-kvm")).some((event) => event.reason === "Unschedulable"),
    );
    await cluster.system.run(["rollout", "undo", "daemonset", name]);
    await kubectl.waitFor("vm", "without-kvm", "condition=Ready", 180_000);
    await bystanderRunsOn();
    await cluster.deleteVm(kubectl, "without-kvm");
  });

  it("a pod placed while the agent is down is made anew once it is back", async () => {
    const [agent] = await cluster.system.list("daemonset", "app.kubernetes.io/component=node");
    const name = agent?.metadata.name ?? "none";
    const patch = (selector: object | null) =>
      JSON.stringify({ spec: { template: { spec: { nodeSelector: selector } } } });
    await cluster.system.run(["patch", "daemonset", name, "--type=merge", "-p", patch({ "example.com/away": "true" })]);
    await eventually("the agent is gone", 60_000, async () => {
      const pods = await cluster.system.list("pods", "app.kubernetes.io/component=node");
      return pods.length === 0;
    });
    await kubectl.apply(testGuest("orphan"));
    await kubectl.vmCondition("orphan", "Ready", "False");
    await cluster.system.run([
      "patch",
      "daemonset",
      name,
      "--type=merge",
      "-p",
      patch({ "example.com/away": null } as object),
    ]);
    await kubectl.waitFor("vm", "orphan", "condition=Ready", 120_000);
    expect((await kubectl.get("vm", "orphan"))?.status.consecutiveCrashes ?? 0).toBe(0);
    await bystanderRunsOn();
  });
});
