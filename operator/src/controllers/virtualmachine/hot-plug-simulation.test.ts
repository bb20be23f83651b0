import { describe, expect, it } from "@jest/globals";
import { killedAtEachWrite } from "../../runtime/testing/mortal-operator.ts";
import type { Pod } from "../../runtime/wire.ts";
import { ATTACHMENT_LABEL } from "./names.ts";
import { machine } from "./testing/fixtures.ts";
import { Simulation } from "./testing/simulation.ts";

const DATA = { name: "data", readOnly: false, persistentVolumeClaim: { claimName: "web-data" } };

function create(simulation: Simulation): void {
  const { status: _, ...made } = machine();
  const { uid: _uid, generation: _generation, ...metadata } = made.metadata;
  simulation.server.write("virtualmachines", { ...made, metadata });
  simulation.server.write("persistentvolumeclaims", {
    metadata: { name: "web-data", namespace: "shop" },
    spec: { accessModes: ["ReadWriteOnce"], volumeMode: "Filesystem", resources: { requests: { storage: "1Gi" } } },
    status: { phase: "Bound", capacity: { storage: "1Gi" } },
  } as object);
}

const status = (simulation: Simulation) => simulation.machine("web")?.status;
const stateOf = (simulation: Simulation) => status(simulation)?.volumes?.find(({ name }) => name === "data")?.state;
const condition = (simulation: Simulation, type: string) =>
  status(simulation)?.conditions?.find((each) => each.type === type);
const attachments = (simulation: Simulation) =>
  simulation.server.all<Pod>("pods").filter((pod) => pod.metadata?.labels?.[ATTACHMENT_LABEL] !== undefined);
const plug = (simulation: Simulation) => simulation.edit("web", (vm) => void vm.spec.disks.push(structuredClone(DATA)));
const unplug = (simulation: Simulation) => simulation.edit("web", (vm) => void vm.spec.disks.pop());

async function run(simulation: Simulation): Promise<void> {
  create(simulation);
  await simulation.until("it runs", () => status(simulation)?.phase === "Running");
}

async function plugged(simulation: Simulation): Promise<void> {
  plug(simulation);
  await simulation.until("the guest has the disk", () => stateOf(simulation) === "Attached");
}

/** A disk comes, goes, comes again and stays over a restart: what must come of each step. */
async function life(simulation: Simulation): Promise<void> {
  await run(simulation);
  const first = status(simulation)?.podUID;
  await plugged(simulation);
  unplug(simulation);
  await simulation.until("the disk is gone, and its pod", () => {
    return stateOf(simulation) === undefined && attachments(simulation).length === 0;
  });
  await plugged(simulation);
  expect(status(simulation)?.podUID).toBe(first);
  expect(condition(simulation, "RestartRequired")?.status).toBe("False");
  simulation.node.end("GuestPowerOff", 0);
  await simulation.until("it runs again, with a disk of its own", () => {
    return status(simulation)?.phase === "Running" && status(simulation)?.podUID !== first;
  });
  const pod = simulation.server.read<Pod>("pods", "shop", "vm-web");
  expect(pod?.spec?.volumes?.map(({ name }) => name)).toContain("disk-data");
  expect(attachments(simulation)).toEqual([]);
  simulation.server.erase("virtualmachines", "shop", "web");
  await simulation.until("all is gone", () => simulation.server.all("pods").length === 0);
}

describe("a disk that is added to a running machine", () => {
  it("comes and goes without a restart, and is an ordinary one after the next", async () => {
    await using simulation = await Simulation.start();
    await life(simulation);
    expect(simulation.node.sins).toEqual([]);
    expect(simulation.node.attached).toBe(2);
    expect(simulation.events.map(({ reason }) => reason)).toEqual(
      expect.arrayContaining(["DiskAttaching", "DiskAttached", "DiskDetached"]),
    );
    expect(simulation.operator.writes).toBeLessThan(60);
  });

  it.each(["before", "after"] as const)(
    "goes the same way when the operator is killed at any one of its writes, %s it is carried out",
    async (when) => {
      const start = () => Simulation.start();
      const { lives, failures } = await killedAtEachWrite(when, start, { live: life, sins: ({ node }) => node.sins });
      expect(failures).toEqual([]);
      expect(lives).toBeGreaterThan(15);
    },
    120_000,
  );

  it("stays with the guest when its pod is deleted by hand, and another pod takes that one's place", async () => {
    await using simulation = await Simulation.start();
    await run(simulation);
    await plugged(simulation);
    const [first] = attachments(simulation);
    simulation.server.edit<Pod>("pods", "shop", first?.metadata?.name ?? "", (pod) => {
      pod.metadata = { ...pod.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" };
    });
    await simulation.until("a second holds the volume as well", () => attachments(simulation).length === 2);
    await simulation.until("some time has passed", () => simulation.clock.monotonic() > 30_000);
    expect(attachments(simulation)).toHaveLength(2);
    expect([stateOf(simulation), simulation.node.attached]).toEqual(["Attached", 1]);
    unplug(simulation);
    await simulation.until("all is gone", () => attachments(simulation).length === 0);
  });

  it("is not made again by operators that come and go", async () => {
    await using simulation = await Simulation.start();
    await run(simulation);
    await plugged(simulation);
    const before = simulation.operator.writes;
    for (let n = 0; n < 5; n += 1) {
      simulation.operator.kill();
      const watching = simulation.server.requests.length;
      await simulation.until("the new operator watches", () => simulation.server.requests.length > watching + 5);
    }
    await simulation.until("some time has passed", () => simulation.clock.monotonic() > 60_000);
    expect([simulation.operator.writes, simulation.node.attached, attachments(simulation).length]).toEqual([
      before,
      1,
      1,
    ]);
  });

  it("is waited for when the guest does not give it up, and the machine's end takes it", async () => {
    await using simulation = await Simulation.start();
    await run(simulation);
    await plugged(simulation);
    simulation.node.isStubborn = true;
    unplug(simulation);
    await simulation.until("it is asked for", () => stateOf(simulation) === "Detaching");
    await simulation.until("some time has passed", () => simulation.clock.monotonic() > 120_000);
    expect(condition(simulation, "Reconciling")).toMatchObject({ status: "True", reason: "DiskDetaching" });
    expect(condition(simulation, "Ready")?.status).toBe("True");
    expect(attachments(simulation)).toHaveLength(1);
    simulation.edit("web", (vm) => Object.assign(vm.spec, { runStrategy: "Halted" }));
    await simulation.until("it is off", () => status(simulation)?.phase === "Stopped");
    await simulation.until("nothing is left", () => attachments(simulation).length === 0);
    expect(simulation.node.sins).toEqual([]);
  });

  it("says why its pod is refused, and comes once it is not", async () => {
    await using simulation = await Simulation.start();
    await run(simulation);
    const refusal = { code: 403, reason: "Forbidden", message: "exceeded quota: pods" };
    simulation.server.admit = (plural) => (plural === "pods" ? refusal : undefined);
    plug(simulation);
    await simulation.until("it is told", () => condition(simulation, "Reconciling")?.reason === "DiskNotAttached");
    expect(condition(simulation, "Reconciling")?.message).toMatch(/^Disk data: .*exceeded quota/);
    const before = simulation.operator.writes;
    await simulation.until("some tries have failed", () => simulation.clock.monotonic() > 120_000);
    expect(simulation.operator.writes - before).toBeLessThan(12);
    simulation.server.admit = undefined;
    await simulation.until("the guest has it", () => stateOf(simulation) === "Attached");
  });
});
