import { describe, expect, it } from "@jest/globals";
import { killedAtEachWrite } from "../../runtime/testing/mortal-operator.ts";
import { machine } from "./testing/fixtures.ts";
import { Simulation } from "./testing/simulation.ts";

function create(simulation: Simulation, name = "web"): void {
  const { status: _, ...made } = machine();
  const { uid: _uid, generation: _generation, ...metadata } = made.metadata;
  simulation.server.write("virtualmachines", { ...made, metadata: { ...metadata, name } });
}
const phase = (simulation: Simulation, name = "web") => simulation.machine(name)?.status?.phase;
const ready = (simulation: Simulation) =>
  simulation.machine("web")?.status?.conditions?.find((condition) => condition.type === "Ready");

/** The life of one machine: each step is something that somebody does, and what must come of it. */
async function life(simulation: Simulation): Promise<void> {
  const { node, server } = simulation;
  const becomes = (expected: string) => simulation.until(`phase ${expected}`, () => phase(simulation) === expected);
  node.refusals = 1;
  create(simulation);
  await becomes("Running");
  simulation.edit("web", (vm) => Object.assign(vm.spec, { paused: true }));
  await becomes("Paused");
  simulation.edit("web", (vm) => Object.assign(vm.spec, { paused: false }));
  await becomes("Running");
  simulation.edit("web", (vm) => {
    vm.metadata.labels = { team: "b" };
    vm.spec.interfaces = [{ name: "default", masquerade: {}, state: "Down" }];
  });
  await simulation.until("labels and the cable follow", () => {
    const labels = server.read("pods", "shop", "vm-web")?.metadata?.labels;
    const state = simulation.machine("web")?.status?.interfaces?.[0]?.state;
    return labels?.["team"] === "b" && labels["app"] === undefined && state === "Down";
  });
  node.end("GuestTripleFault", 80);
  await becomes("CrashBackOff");
  await becomes("Running");
  expect(simulation.machine("web")?.status).toMatchObject({ consecutiveCrashes: 1, restarts: 1, failedStarts: 0 });
  await simulation.until("restart after deletion by hand", () => {
    const pod = server.read("pods", "shop", "vm-web");
    if (pod !== undefined && pod.metadata?.annotations?.["typevisor.io/restarts"] === "1") {
      server.edit("pods", "shop", "vm-web", (copy) => {
        copy.metadata = { ...copy.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" };
      });
    }
    return phase(simulation) === "Running" && simulation.machine("web")?.status?.restarts === 2;
  });
  simulation.edit("web", (vm) => Object.assign(vm.spec, { runStrategy: "Halted" }));
  await becomes("Stopped");
  expect(server.all("pods")).toEqual([]);
  simulation.edit("web", (vm) => Object.assign(vm.spec, { runStrategy: "Once" }));
  await becomes("Running");
  node.end("GuestPowerOff", 0);
  await becomes("Stopped");
  expect(ready(simulation)).toMatchObject({ status: "True", reason: "Completed" });
  server.erase("virtualmachines", "shop", "web");
  await simulation.until("all is gone", () => server.all("pods").length + server.all("secrets").length === 0);
}

describe("the life of a machine", () => {
  it("goes its way, and each state is written once", async () => {
    await using simulation = await Simulation.start();
    await life(simulation);
    expect(simulation.node.sins).toEqual([]);
    expect(simulation.node.starts).toBe(4);
    expect(simulation.operator.writes).toBeLessThan(60);
  });

  it.each(["before", "after"] as const)(
    "goes the same way when the operator is killed at any one of its writes, %s it is carried out",
    async (when) => {
      const start = () => Simulation.start();
      const { lives, failures } = await killedAtEachWrite(when, start, {
        live: life,
        sins: ({ node: { starts, sins } }) => [...sins, ...(starts === 4 ? [] : [`${starts} starts`])],
      });
      expect(failures).toEqual([]);
      expect(lives).toBeGreaterThan(20);
    },
    120_000,
  );
});

describe("a running machine", () => {
  it("is not touched by operators that come and go, nor by an API server that fails now and then", async () => {
    await using simulation = await Simulation.start();
    create(simulation);
    await simulation.until("it runs", () => phase(simulation) === "Running");
    const uid = simulation.machine("web")?.status?.podUID;
    const before = simulation.operator.writes;
    for (let n = 0; n < 5; n += 1) {
      simulation.operator.kill();
      const watching = simulation.server.requests.length;
      await simulation.until("the new operator watches", () => simulation.server.requests.length > watching + 5);
      simulation.server.breakWatches();
      simulation.server.compact();
    }
    await simulation.until("some time has passed", () => simulation.clock.monotonic() > 60_000);
    expect(simulation.machine("web")?.status?.podUID).toBe(uid);
    expect(simulation.operator.writes).toBe(before);
    expect(phase(simulation)).toBe("Running");
  });

  it("follows one of the same name only once that one's pod is gone", async () => {
    await using simulation = await Simulation.start();
    create(simulation);
    await simulation.until("it runs", () => phase(simulation) === "Running");
    const first = simulation.machine("web")?.status?.podUID;
    simulation.server.erase("virtualmachines", "shop", "web");
    create(simulation);
    await simulation.until("the second runs", () => phase(simulation) === "Running");
    expect(simulation.machine("web")?.status?.podUID).not.toBe(first);
    expect(simulation.node.sins).toEqual([]);
    expect(simulation.node.running.length).toBe(1);
  });
});

describe("a machine that cannot have its pod", () => {
  it("says so for a pod of its name that belongs to something else, and starts once that is gone", async () => {
    await using simulation = await Simulation.start();
    simulation.server.write("pods", {
      metadata: { name: "vm-web", namespace: "shop" },
      status: { phase: "Failed" },
    } as object);
    create(simulation);
    await simulation.until("the conflict is told", () => ready(simulation)?.reason === "NameConflict");
    expect(simulation.server.read("pods", "shop", "vm-web")?.metadata?.deletionTimestamp).toBeUndefined();
    simulation.server.erase("pods", "shop", "vm-web");
    await simulation.until("it runs", () => phase(simulation) === "Running");
  });

  it.each([
    ["exceeded quota: pods, requested: memory=1Gi", "QuotaExceeded"],
    ["no PriorityClass with name high was found", "PodForbidden"],
    ['violates PodSecurity "restricted:latest"', "PodForbidden"],
  ])("says so for %s, once, and starts when it may", async (message, reason) => {
    await using simulation = await Simulation.start();
    const status = { code: 403, reason: "Forbidden", message: `pods "vm-web" is forbidden: ${message}` };
    simulation.server.admit = (plural) => (plural === "pods" ? status : undefined);
    create(simulation);
    await simulation.until("the refusal is told", () => ready(simulation)?.reason === reason);
    expect(ready(simulation)?.message).toContain(message);
    await simulation.until("some tries have failed", () => simulation.clock.monotonic() > 60_000);
    expect(simulation.events.filter((event) => event.reason === reason).length).toBe(1);
    simulation.server.admit = undefined;
    await simulation.until("it runs", () => phase(simulation) === "Running");
  });
});
