import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { openConsole, podOf, tellGuest, testGuest } from "../support/vm.ts";

describe("the life of a VM", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("lifecycle");
  });
  afterAll(() => cluster.dropNamespace("lifecycle"));

  const start = async (name: string, spec: Parameters<typeof testGuest>[1] = {}, cmdline = "") => {
    await kubectl.apply(testGuest(name, spec, cmdline));
    return kubectl.waitFor("vm", name, "condition=Ready");
  };
  const tell = (name: string, line: string, answer: RegExp) => tellGuest(kubectl, name, line, answer);
  const podUid = async (name: string) => (await kubectl.get("pod", podOf(name)))?.metadata.uid;
  /** Waits for another pod than `before` that is ready. */
  const nextRun = (name: string, before: string | undefined) =>
    eventually(`another run of ${name}`, 90_000, async () => {
      const vm = await kubectl.get("vm", name);
      return vm?.status.podUID && vm.status.podUID !== before && vm.status.phase === "Running" ? vm : null;
    });
  const setStrategy = (name: string, runStrategy: string) =>
    kubectl.run(["patch", "vm", name, "--type=merge", "-p", JSON.stringify({ spec: { runStrategy } })]);

  it("Always: starts again after the guest powered off", async () => {
    await start("always");
    const before = await podUid("always");
    await tell("always", "poweroff", /power off/);
    const vm = await nextRun("always", before);
    expect(vm.status).toMatchObject({ restarts: 1, lastTermination: { reason: "GuestPowerOff", exitCode: 0 } });
  });

  it("RerunOnFailure: stays off after a power-off, starts again after a crash", async () => {
    await start("rerun", { runStrategy: "RerunOnFailure" });
    const before = await podUid("rerun");
    await tell("rerun", "triplefault", /triple fault/);
    const vm = await nextRun("rerun", before);
    expect(vm.status.lastTermination?.reason).toBe("GuestTripleFault");
    await tell("rerun", "poweroff", /power off/);
    await kubectl.vmCondition("rerun", "Running", "False", "Completed");
    expect((await kubectl.get("vm", "rerun"))?.status.phase).toBe("Stopped");
  });

  it("Once: a crash is final, and says so", async () => {
    await start("once", { runStrategy: "Once" });
    await tell("once", "triplefault", /triple fault/);
    const ready = await kubectl.vmCondition("once", "Ready", "False", "Crashed");
    expect(ready.message).toMatch(/triple fault/i);
    expect((await kubectl.get("vm", "once"))?.status.phase).toBe("Failed");
  });

  it("Halted stops it with its power button, and Always starts it again", async () => {
    await start("halt");
    const before = await podUid("halt");
    await setStrategy("halt", "Halted");
    await kubectl.vmCondition("halt", "Running", "False", "Halted");
    await eventually("no pod is left", 30_000, async () => (await kubectl.get("pod", podOf("halt"))) === null);
    const vm = await kubectl.get("vm", "halt");
    expect(vm?.status).toMatchObject({ phase: "Stopped", lastTermination: { reason: "Stopped" } });
    await setStrategy("halt", "Always");
    await nextRun("halt", before);
  });

  it("a guest that does not heed its power button is switched off after its grace period", async () => {
    await start("deaf", { terminationGracePeriodSeconds: 1 }, "-- deaf");
    await setStrategy("deaf", "Halted");
    await kubectl.vmCondition("deaf", "Running", "False", "Halted");
    expect((await kubectl.get("vm", "deaf"))?.status.lastTermination?.reason).toBe("StopTimeout");
  });

  it("is restarted by deleting its pod", async () => {
    await start("restart");
    const before = await podUid("restart");
    await kubectl.run(["delete", "pod", podOf("restart")]);
    const vm = await nextRun("restart", before);
    expect(vm.status.restarts).toBe(1);
  });

  it("a guest's reboot stays in its pod, is counted and told of", async () => {
    await start("reboot");
    const before = await podUid("reboot");
    await using session = await openConsole(kubectl, "reboot");
    session.write("reboot\r");
    await session.expect(/TESTGUEST READY[\s\S]*TESTGUEST READY/);
    expect(await podUid("reboot")).toBe(before);
    const vm = await eventually("the reboot is counted", 60_000, async () => {
      const seen = await kubectl.get("vm", "reboot");
      return seen?.status.reboots === 1 ? seen : null;
    });
    expect(vm.status).toMatchObject({ phase: "Running", restarts: 0 });
    await eventually("the reboot is told of", 60_000, async () =>
      (await kubectl.events("reboot")).some((event) => event.reason === "GuestRebooted"),
    );
    await kubectl.waitFor("pod", podOf("reboot"), "condition=Ready");
  });

  it("a change that needs a restart waits for one, and says which field", async () => {
    await start("change");
    const before = await podUid("change");
    await kubectl.apply(testGuest("change", { cpu: { cores: 2 } }));
    const condition = await kubectl.vmCondition("change", "RestartRequired", "True", "SpecChanged");
    expect(condition.message).toContain("spec.cpu.cores");
    expect(await podUid("change")).toBe(before);
    await kubectl.run(["delete", "pod", podOf("change")]);
    await nextRun("change", before);
    await kubectl.vmCondition("change", "RestartRequired", "False");
    await tell("change", "cpus", /cpus 2/);
  });

  it("two VMs of one name in a row do not meet", async () => {
    const first = await start("twin");
    await kubectl.run(["delete", "vm", "twin", "--wait=false"]);
    await eventually("the first twin is gone", 30_000, async () => {
      const vm = await kubectl.get("vm", "twin");
      return vm?.metadata.uid !== first.metadata.uid;
    });
    const second = await start("twin");
    expect(second.metadata.uid).not.toBe(first.metadata.uid);
    expect(second.status.restarts ?? 0).toBe(0);
  });

  it("deleted while it starts, it leaves nothing", async () => {
    await kubectl.apply(testGuest("brief"));
    await cluster.deleteVm(kubectl, "brief");
  });
});
