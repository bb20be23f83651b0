import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { guestAnswers, podOf, tellGuest, testGuest } from "../support/vm.ts";

describe("a guest on a bad day", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let neighbourUid: string | undefined;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("hostile");
    await kubectl.apply(testGuest("neighbour"));
    neighbourUid = (await kubectl.waitFor("vm", "neighbour", "condition=Ready")).status.podUID;
  });
  afterAll(() => cluster.dropNamespace("hostile"));

  const start = async (name: string, spec: Parameters<typeof testGuest>[1] = {}, cmdline = "") => {
    await kubectl.apply(testGuest(name, { terminationGracePeriodSeconds: 1, ...spec }, cmdline));
    await kubectl.waitFor("vm", name, "condition=Ready");
  };
  const tell = (name: string, line: string, answer: RegExp) => tellGuest(kubectl, name, line, answer);
  const stops = (name: string) => cluster.deleteVm(kubectl, name);
  const setPaused = (name: string, paused: boolean) =>
    kubectl.run(["patch", "vm", name, "--type=merge", "-p", JSON.stringify({ spec: { paused } })]);
  const neighbourIsUntouched = async () => {
    const neighbour = await kubectl.get("vm", "neighbour");
    expect(neighbour?.status).toMatchObject({ phase: "Running", podUID: neighbourUid });
    await guestAnswers(kubectl, "neighbour");
  };

  it.each([
    ["spin", "spin", /spinning/],
    ["flood", "flood", /flooding/],
    ["garbage", "garbage", /garbage done/],
    ["netgarbage", "netgarbage 50", /netgarbage rounds 50, the interface works/],
  ])("that does %s still can be seen and stopped, and hurts no one", async (deed, line, answer) => {
    await start(deed);
    await tell(deed, line, answer);
    const pod = await kubectl.get("pod", podOf(deed));
    expect(pod?.status.phase).toBe("Running");
    // The launcher's control API answers all the while.
    await setPaused(deed, true);
    await kubectl.waitFor("vm", deed, "condition=Paused");
    await setPaused(deed, false);
    await kubectl.vmCondition(deed, "Paused", "False");
    await neighbourIsUntouched();
    await stops(deed);
  });

  it("that panics is told of in an event", async () => {
    await start("panic");
    await tell("panic", "panic", /panicked/);
    await kubectl.vmCondition("panic", "Ready", "False", "GuestPanicked");
    await eventually("an event of the panic", 30_000, async () =>
      (await kubectl.events("panic")).some((event) => event.reason === "GuestPanicked"),
    );
    await neighbourIsUntouched();
    await stops("panic");
  });

  it("that resets in a storm is ended as a crash, backs off, and says why", async () => {
    await kubectl.apply(testGuest("storm", { runStrategy: "Once" }, "-- reboot"));
    const ready = await kubectl.vmCondition("storm", "Ready", "False", "Crashed", 90_000);
    expect(ready.message).toMatch(/^ResetStorm: .*reset/);
    await neighbourIsUntouched();
    await stops("storm");
  });

  it("that crashes at once backs off longer each time", async () => {
    await kubectl.apply(testGuest("crash-loop", {}, "-- triplefault"));
    const ready = await kubectl.vmCondition("crash-loop", "Ready", "False", "CrashBackOff");
    expect(ready.message).toMatch(/triple fault/i);
    const vm = await eventually("a second crash", 60_000, async () => {
      const seen = await kubectl.get("vm", "crash-loop");
      const { consecutiveCrashes = 0, nextStartTime } = seen?.status ?? {};
      return consecutiveCrashes >= 2 && nextStartTime !== undefined ? seen : null;
    });
    const { nextStartTime = "", lastTermination } = vm.status;
    const waitMs = Date.parse(nextStartTime) - Date.parse(lastTermination?.finishedAt ?? "");
    expect(waitMs).toBeGreaterThanOrEqual(20_000 - 1000);
    await neighbourIsUntouched();
    await stops("crash-loop");
  });
});
