import { describe, expect, it } from "@jest/globals";
import { killedAtEachWrite } from "../../runtime/testing/mortal-operator.ts";
import { endNamespace } from "../../runtime/testing/namespace-end.ts";
import type { Pod } from "../../runtime/wire.ts";
import type { Cut } from "../virtualmachine/testing/fake-move.ts";
import { machine } from "../virtualmachine/testing/fixtures.ts";
import { Simulation } from "../virtualmachine/testing/simulation.ts";
import type { StoredMigration } from "./stored.ts";

async function start(): Promise<Simulation> {
  const simulation = await Simulation.start();
  simulation.node.addNode("node-2");
  return simulation;
}

function create(simulation: Simulation, name = "web", runStrategy: "Always" | "Once" = "Always"): void {
  const { status: _, ...made } = machine({ disks: [], runStrategy });
  const { uid: _uid, generation: _generation, ...metadata } = made.metadata;
  simulation.server.write("virtualmachines", { ...made, metadata: { ...metadata, name } });
}

/** `skewMs`: how far the API server's clock is ahead. */
function move(simulation: Simulation, name = "move", spec: object = {}, skewMs = 0): void {
  const creationTimestamp = new Date(simulation.clock.now() + skewMs).toISOString();
  simulation.server.write("virtualmachinemigrations", {
    metadata: { name, namespace: "shop", creationTimestamp },
    spec: { virtualMachineName: "web", priority: "User", ...spec },
  } as object);
}

const migration = (simulation: Simulation, name = "move") =>
  simulation.server.read<StoredMigration>("virtualmachinemigrations", "shop", name);
const phase = (simulation: Simulation, name = "move") => migration(simulation, name)?.status?.phase;
const ready = (simulation: Simulation, name = "move") =>
  migration(simulation, name)?.status?.conditions?.find(({ type }) => type === "Ready");
const podNames = (simulation: Simulation) => simulation.server.all<Pod>("pods").map(({ metadata }) => metadata?.name);
const runsIn = (simulation: Simulation, podName: string) => {
  const status = simulation.machine("web")?.status;
  return status?.phase === "Running" && status.podName === podName;
};

function remove(simulation: Simulation, name = "move"): void {
  simulation.server.erase("virtualmachinemigrations", "shop", name);
}

/** What keeps an object, and with it its namespace, from going. */
const heldBy = ({ server }: Simulation) =>
  ["virtualmachines", "virtualmachinemigrations", "pods", "secrets"].flatMap((plural) =>
    server.all(plural).flatMap(({ metadata }) => metadata?.finalizers ?? []),
  );

/** One pod is left, the machine runs in it, and nowhere else. */
const isSettled = (simulation: Simulation) => {
  const [only, ...others] = podNames(simulation);
  const { guests } = simulation.node;
  return others.length === 0 && runsIn(simulation, only ?? "") && guests.length === 1;
};

async function running(simulation: Simulation): Promise<void> {
  create(simulation);
  await simulation.until("it runs", () => runsIn(simulation, "vm-web"));
}

/** There, and one that is taken back in the middle. */
async function life(simulation: Simulation): Promise<void> {
  await running(simulation);
  const startedAt = simulation.machine("web")?.status?.startedAt;
  move(simulation);
  await simulation.until("it has moved", () => phase(simulation) === "Succeeded" && runsIn(simulation, "vm2-web"));
  expect(simulation.machine("web")?.status).toMatchObject({ node: "node-2", restarts: 0, startedAt });
  await simulation.until("the old pod is gone", () => podNames(simulation).join() === "vm2-web");
  move(simulation, "third");
  await simulation.until(
    "it copies",
    () => phase(simulation, "third") === "Copying" || phase(simulation, "third") === "Succeeded",
  );
  remove(simulation, "third");
  await simulation.until("it is settled", () => {
    const names = podNames(simulation);
    return migration(simulation, "third") === undefined && names.length === 1 && runsIn(simulation, names[0] ?? "");
  });
  expect(simulation.machine("web")?.status).toMatchObject({ restarts: 0, startedAt });
}

describe("a migration", () => {
  it("moves a machine, keeps its run, and tells what it cost", async () => {
    await using simulation = await start();
    await life(simulation);
    expect(simulation.node.sins).toEqual([]);
    const { status } = migration(simulation) ?? {};
    expect(status).toMatchObject({
      source: { node: "node-1", podName: "vm-web" },
      target: { node: "node-2", podName: "vm2-web" },
      result: { totalMilliseconds: 1500, downtimeMilliseconds: 25.5, downtime: { lastPass: 10 }, rounds: 3 },
    });
    expect(heldBy(simulation)).toEqual([]);
    expect(simulation.machine("web")?.status?.lastMigration).toMatchObject({ name: expect.any(String) });
    expect(simulation.events.map(({ reason }) => reason)).toEqual(expect.arrayContaining(["MigrationSucceeded"]));
  });

  it("moves it back to where it was, in the name that its first pod had", async () => {
    await using simulation = await start();
    await running(simulation);
    move(simulation);
    await simulation.until("it has moved", () => phase(simulation) === "Succeeded");
    move(simulation, "back", { target: { nodeName: "node-1" } });
    await simulation.until(
      "it is back",
      () => phase(simulation, "back") === "Succeeded" && runsIn(simulation, "vm-web"),
    );
    expect(simulation.machine("web")?.status).toMatchObject({ node: "node-1", lastMigration: { name: "back" } });
    expect(simulation.node.sins).toEqual([]);
  });

  it.each(["before", "after"] as const)(
    "goes the same way when the operator is killed at any one of its writes, %s it is carried out",
    async (when) => {
      const { lives, failures } = await killedAtEachWrite(when, start, { live: life, sins: ({ node }) => node.sins });
      expect(failures).toEqual([]);
      expect(lives).toBeGreaterThan(20);
    },
    300_000,
  );
});

describe("an operator that is killed", () => {
  it("while memory has been copied for longer than a pod may take to start does not make its successor give up", async () => {
    await using simulation = await start();
    await running(simulation);
    simulation.node.isSlow = true;
    move(simulation);
    await simulation.until("it copies", () => phase(simulation) === "Copying");
    simulation.clock.advance(6 * 60_000);
    simulation.operator.kill();
    const { asked } = simulation.node;
    const phases = new Set<string>();
    await simulation.until("the next one has asked how far it is", () => {
      phases.add(phase(simulation) ?? "");
      return simulation.node.asked > asked + 4;
    });
    expect([...phases]).toEqual(["Copying"]);
    simulation.node.isSlow = false;
    await simulation.until("it has moved", () => phase(simulation) === "Succeeded" && runsIn(simulation, "vm2-web"));
    expect(simulation.node.sins).toEqual([]);
  });
});

describe("a link that breaks", () => {
  it.each<[Cut, string, string, string]>([
    ["Copying", "Failed", "vm-web", "MigrationFailed"],
    ["before Commit arrives", "Succeeded", "vm2-web", "MigrationSucceeded"],
    ["after Commit arrives", "Succeeded", "vm2-web", "MigrationSucceeded"],
  ])("in the phase %s leaves the machine running once", async (cut, end, podName, reason) => {
    await using simulation = await start();
    await running(simulation);
    simulation.node.cut = cut;
    move(simulation);
    await simulation.until("it is settled", () => phase(simulation) === end && runsIn(simulation, podName));
    expect(ready(simulation)?.reason).toBe(reason);
    expect(migration(simulation)?.status?.handOver?.decision).toBe(cut === "Copying" ? undefined : "target");
    expect(simulation.node.sins).toEqual([]);
    expect(simulation.machine("web")?.status).toMatchObject({ restarts: 0 });
  });

  it.each<[Cut]>([["before Commit arrives"], ["after Commit arrives"]])(
    "%s is decided once, whenever the operator is killed",
    async (cut) => {
      const live = async (simulation: Simulation) => {
        simulation.node.cut = cut;
        await running(simulation);
        move(simulation);
        await simulation.until("settled", () => phase(simulation) === "Succeeded" && runsIn(simulation, "vm2-web"));
      };
      const { failures } = await killedAtEachWrite("after", start, { live, sins: ({ node }) => node.sins });
      expect(failures).toEqual([]);
    },
    300_000,
  );
});

describe("a launcher that is killed", () => {
  const phases = ["Preparing", "Copying", "HandingOver", "Finishing"] as const;

  it.each(phases.flatMap((at) => [[at, "vm-web"] as const, [at, "vm2-web"] as const]))(
    "while the migration is %s, in pod %s, leaves one machine that runs",
    async (at, victim) => {
      await using simulation = await start();
      await running(simulation);
      move(simulation);
      const reached = () => {
        const now = phase(simulation);
        return now === at || now === "Succeeded" || now === "Failed";
      };
      await simulation.until(
        `it is ${at}`,
        () => reached() && (podNames(simulation).includes(victim) || phase(simulation) === "Succeeded"),
      );
      simulation.node.kill(victim);
      await simulation.until("all is settled", () => {
        const over = ["Succeeded", "Failed", "Cancelled"].includes(phase(simulation) ?? "");
        const [only, ...others] = podNames(simulation);
        return over && others.length === 0 && runsIn(simulation, only ?? "") && simulation.node.guests.length === 1;
      });
      expect(simulation.node.sins).toEqual([]);
      expect(simulation.machine("web")?.status?.restarts).toBeLessThanOrEqual(1);
    },
    60_000,
  );
});

describe("an installation that goes while a machine moves", () => {
  const phases = ["Preparing", "Copying", "HandingOver", "Finishing"] as const;
  const kept = [true, false] as const;

  /** Launchers go on by themselves meanwhile. */
  async function uninstalled(simulation: Simulation, change: () => void): Promise<void> {
    await simulation.operator.uninstall();
    expect(heldBy(simulation)).toEqual([]);
    change();
    const { clock } = simulation;
    const untilMs = clock.now() + 3_000;
    await simulation.until("time has passed", () => clock.now() >= untilMs);
    expect(new Set(simulation.node.guests).size).toBe(1);
  }

  it.each(phases.flatMap((at) => kept.map((isKept) => [at, isKept] as const)))(
    "in the phase %s leaves it running once, and the next one finds it (its migration is kept: %s)",
    async (at, isKept) => {
      await using simulation = await start();
      await running(simulation);
      const startedAt = simulation.machine("web")?.status?.startedAt;
      move(simulation);
      await simulation.until(`it is ${at}`, () => phase(simulation) === at || phase(simulation) === "Succeeded");
      await uninstalled(simulation, () => {
        if (!isKept) remove(simulation);
      });
      simulation.operator.install();
      await simulation.until("all is settled", () => {
        const isOver = ["Succeeded", "Failed", "Cancelled", undefined].includes(phase(simulation));
        return isOver && isSettled(simulation);
      });
      expect(simulation.machine("web")?.status).toMatchObject({ restarts: 0, startedAt });
      expect(simulation.machine("web")?.status).not.toHaveProperty("migration");
      expect(simulation.node.sins).toEqual([]);
      move(simulation, "next");
      await simulation.until("it can move", () => phase(simulation, "next") === "Succeeded" && isSettled(simulation));
    },
    60_000,
  );
});

describe("a namespace that is deleted while a machine moves in it", () => {
  const orders = [
    ["pods", "virtualmachines", "virtualmachinemigrations", "secrets"],
    ["virtualmachinemigrations", "pods", "secrets", "virtualmachines"],
    ["secrets", "virtualmachines", "pods", "virtualmachinemigrations"],
  ] as const;
  const operators = ["is there", "comes back later"] as const;

  it.each(orders.flatMap((order) => operators.map((operator) => [order[0], operator, order] as const)))(
    "(%s first) goes with all that is in it, where the operator %s",
    async (_first, operator, order) => {
      await using simulation = await start();
      await running(simulation);
      move(simulation);
      simulation.node.isSlow = true;
      await simulation.until("it copies", () => phase(simulation) === "Copying");
      if (operator === "comes back later") await simulation.operator.uninstall();
      const step = endNamespace(simulation.server, "shop", order);
      await simulation.until("the namespace is empty", step);
      if (operator === "comes back later") simulation.operator.install();
      const { clock } = simulation;
      const untilMs = clock.now() + 20_000;
      await simulation.until("time has passed", () => clock.now() >= untilMs);
      expect(step()).toBe(true);
      expect(simulation.node.guests).toEqual([]);
      expect(simulation.node.sins).toEqual([]);
    },
    60_000,
  );
});

describe("a migration whose object goes in a moment of doubt", () => {
  it.each<[Cut]>([["before Commit arrives"], ["after Commit arrives"]])(
    "where the link broke %s is decided once, whenever the operator is killed",
    async (cut) => {
      const live = async (simulation: Simulation) => {
        simulation.node.cut = cut;
        await running(simulation);
        move(simulation);
        await simulation.until(
          "both doubt, or it is over",
          () => phase(simulation) === "Succeeded" || simulation.node.doubts > 0,
        );
        remove(simulation);
        await simulation.until("it is settled", () => isSettled(simulation) && runsIn(simulation, "vm2-web"));
        expect(simulation.machine("web")?.status).toMatchObject({ restarts: 0 });
      };
      const { failures } = await killedAtEachWrite("after", start, { live, sins: ({ node }) => node.sins });
      expect(failures).toEqual([]);
    },
    300_000,
  );

  it("and its new pod with it has the machine start afresh, which nothing else would let go on", async () => {
    await using simulation = await start();
    await running(simulation);
    simulation.node.cut = "before Commit arrives";
    move(simulation);
    await simulation.until("both doubt", () => simulation.node.doubts > 0);
    await simulation.operator.uninstall();
    simulation.node.kill("vm2-web");
    simulation.server.erase("pods", "shop", "vm2-web");
    remove(simulation);
    simulation.operator.install();
    await simulation.until("it runs again", () => isSettled(simulation));
    expect(simulation.machine("web")?.status).toMatchObject({ restarts: 1 });
    expect(simulation.node.sins).toEqual([]);
  });
});

describe("a migration whose object goes when it is too late", () => {
  it("is what the machine tells of still", async () => {
    await using simulation = await start();
    await running(simulation);
    move(simulation);
    simulation.server.intercept = ({ plural, body }) => {
      const isLate = plural === "virtualmachinemigrations" && body?.status?.["phase"] === "Finishing";
      // Once it is written, and before any watch has it.
      if (isLate) queueMicrotask(() => remove(simulation));
      return undefined;
    };
    await simulation.until("it has moved", () => migration(simulation) === undefined && isSettled(simulation));
    await simulation.until("it is told", () => simulation.machine("web")?.status?.migration === undefined);
    expect(simulation.machine("web")?.status).toMatchObject({
      podName: "vm2-web",
      lastMigration: { name: "move", phase: "Succeeded", target: { node: "node-2", podName: "vm2-web" } },
    });
    expect(simulation.node.sins).toEqual([]);
  });
});

describe("a machine that is stopped while it moves", () => {
  it("is off, and its migration is cancelled", async () => {
    await using simulation = await start();
    await running(simulation);
    move(simulation);
    await simulation.until("it copies", () => phase(simulation) === "Copying");
    simulation.edit("web", (vm) => Object.assign(vm.spec, { runStrategy: "Halted" }));
    await simulation.until("it is off", () => simulation.machine("web")?.status?.phase === "Stopped");
    await simulation.until(
      "the migration is over",
      () => phase(simulation) === "Cancelled" || phase(simulation) === "Succeeded",
    );
    await simulation.until("no pod is left", () => podNames(simulation).length === 0);
    expect(simulation.node.sins).toEqual([]);
  });

  it("is gone with both pods when it is deleted", async () => {
    await using simulation = await start();
    await running(simulation);
    move(simulation);
    await simulation.until("it copies", () => phase(simulation) === "Copying");
    simulation.server.erase("virtualmachines", "shop", "web");
    await simulation.until("no pod is left", () => podNames(simulation).length === 0);
    await simulation.until("the migration is over", () =>
      ["Cancelled", "Failed", "Succeeded"].includes(phase(simulation) ?? ""),
    );
    expect(heldBy(simulation)).toEqual([]);
  });
});

describe("a migration that cannot be", () => {
  it("waits a moment for its machine, also where the API server's clock is behind", async () => {
    await using simulation = await start();
    move(simulation, "move", { virtualMachineName: "late" }, -600_000);
    await simulation.until("it waits", () => phase(simulation) !== undefined);
    expect(phase(simulation)).toBe("Pending");
    await simulation.until("it has failed", () => phase(simulation) === "Failed");
    expect(ready(simulation)).toMatchObject({ reason: "MachineNotFound" });
  });

  it.each<[string, object, string, RegExp]>([
    ["of a machine that there is not", { virtualMachineName: "db" }, "MachineNotFound", /no VirtualMachine db/],
    [
      "to the node that it is on",
      { target: { nodeName: "node-1" } },
      "TargetInvalid",
      /is on node node-1 already.*allowSourceNode/,
    ],
    ["to a node that there is not", { target: { nodeName: "node-9" } }, "TargetInvalid", /There is no node node-9/],
  ])("%s says so", async (_what, spec, reason, message) => {
    await using simulation = await start();
    await running(simulation);
    move(simulation, "move", spec);
    await simulation.until("it has failed", () => phase(simulation) === "Failed");
    expect(ready(simulation)).toMatchObject({ status: "False", reason, message: expect.stringMatching(message) });
    expect(podNames(simulation)).toEqual(["vm-web"]);
  });

  it("for want of room says so, and leaves the machine alone", async () => {
    await using simulation = await start();
    await running(simulation);
    const message = 'pods "vm2-web" is forbidden: exceeded quota: pods, requested: memory=1Gi';
    const status = { code: 403, reason: "Forbidden", message };
    simulation.server.admit = (plural, { metadata }) =>
      plural === "pods" && metadata?.name === "vm2-web" ? status : undefined;
    move(simulation);
    await simulation.until("the refusal is told", () => ready(simulation)?.message.includes("exceeded quota") === true);
    await simulation.until("it is given up", () => phase(simulation) === "Failed");
    expect(ready(simulation)).toMatchObject({
      reason: "TargetNotReady",
      message: expect.stringContaining("exceeded quota"),
    });
    await simulation.until("the machine runs as before", () => runsIn(simulation, "vm-web"));
  });

  it("is collected when its time is over", async () => {
    await using simulation = await start();
    move(simulation, "move", { virtualMachineName: "db", ttlSecondsAfterFinished: 60 });
    await simulation.until("it has failed", () => phase(simulation) === "Failed");
    await simulation.until("it is gone", () => migration(simulation) === undefined);
  });
});
