import { describe, expect, it } from "@jest/globals";
import { MULTUS_NETWORKS_ANNOTATION, type NetworkInterface } from "../../../../crds/src/interface.ts";
import { killedAtEachWrite } from "../../runtime/testing/mortal-operator.ts";
import type { Pod } from "../../runtime/wire.ts";
import { machine } from "./testing/fixtures.ts";
import { Simulation } from "./testing/simulation.ts";

const OWN: NetworkInterface = { name: "default", masquerade: {}, state: "Up" };
const STORAGE: NetworkInterface = { name: "storage", multus: { networkName: "infra/vlan-5" }, state: "Up" };

const status = (simulation: Simulation) => simulation.machine("web")?.status;
const has = (simulation: Simulation) => status(simulation)?.interfaces?.some(({ name }) => name === "storage") === true;
const condition = (simulation: Simulation, type: string) =>
  status(simulation)?.conditions?.find((each) => each.type === type);
const asked = (simulation: Simulation) =>
  simulation.server.read<Pod>("pods", "shop", "vm-web")?.metadata?.annotations?.[MULTUS_NETWORKS_ANNOTATION];
const setInterfaces = (simulation: Simulation, ...interfaces: NetworkInterface[]) =>
  simulation.edit("web", (vm) => {
    vm.spec.interfaces = structuredClone(interfaces);
  });

async function run(simulation: Simulation): Promise<void> {
  const { status: _, ...made } = machine();
  const { uid: _uid, generation: _generation, ...metadata } = made.metadata;
  simulation.server.write("virtualmachines", { ...made, metadata });
  await simulation.until("it runs", () => status(simulation)?.phase === "Running");
}

async function plugged(simulation: Simulation): Promise<void> {
  setInterfaces(simulation, OWN, STORAGE);
  await simulation.until("the guest has the interface", () => has(simulation));
}

/** An interface comes, goes, comes again and stays over a restart: what must come of each step. */
async function life(simulation: Simulation): Promise<void> {
  await run(simulation);
  const first = status(simulation)?.podUID;
  await plugged(simulation);
  setInterfaces(simulation, OWN);
  await simulation.until("it is gone, and its network", () => !has(simulation) && asked(simulation) === undefined);
  await plugged(simulation);
  expect(status(simulation)?.podUID).toBe(first);
  expect(condition(simulation, "RestartRequired")?.status).toBe("False");
  simulation.node.end("GuestPowerOff", 0);
  await simulation.until("it runs again, with an interface of its own", () => {
    return status(simulation)?.phase === "Running" && status(simulation)?.podUID !== first && has(simulation);
  });
  expect(JSON.parse(asked(simulation) ?? "[]")).toMatchObject([{ name: "vlan-5", namespace: "infra" }]);
}

describe("an interface that is added to a running machine", () => {
  it("comes and goes without a restart, and is an ordinary one after the next", async () => {
    await using simulation = await Simulation.start();
    await life(simulation);
    expect(simulation.node.sins).toEqual([]);
    expect(simulation.node.attached).toBe(2);
    expect(simulation.events.map(({ reason }) => reason)).toEqual(
      expect.arrayContaining(["InterfaceAttached", "InterfaceDetached"]),
    );
    expect(simulation.operator.writes).toBeLessThan(60);
  });

  it.each(["before", "after"] as const)(
    "goes the same way when the operator is killed at any one of its writes, %s it is carried out",
    async (when) => {
      const start = () => Simulation.start();
      const { lives, failures } = await killedAtEachWrite(when, start, { live: life, sins: ({ node }) => node.sins });
      expect(failures).toEqual([]);
      expect(lives).toBeGreaterThan(10);
    },
    120_000,
  );

  it("takes a restart where the networks of pods stay as they are, and has it then", async () => {
    await using simulation = await Simulation.start();
    simulation.node.changesNetworks = false;
    await run(simulation);
    const first = status(simulation)?.podUID;
    setInterfaces(simulation, OWN, STORAGE);
    await simulation.until("it is given up", () => condition(simulation, "RestartRequired")?.status === "True");
    expect(condition(simulation, "RestartRequired")?.message).toMatch(/network infra\/vlan-5 did not come/);
    expect(simulation.node.attached).toBe(0);
    simulation.node.end("GuestPowerOff", 0);
    await simulation.until("it runs again", () => {
      return status(simulation)?.phase === "Running" && status(simulation)?.podUID !== first && has(simulation);
    });
    expect(condition(simulation, "RestartRequired")?.status).toBe("False");
  });
});
