import { describe, expect, it } from "@jest/globals";
import type { Disk } from "../../../../crds/src/disk.ts";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import { killedAtEachWrite } from "../../runtime/testing/mortal-operator.ts";
import type { Pod } from "../../runtime/wire.ts";
import type { Cut } from "../virtualmachine/testing/fake-move.ts";
import { machine } from "../virtualmachine/testing/fixtures.ts";
import { Simulation } from "../virtualmachine/testing/simulation.ts";
import type { StoredMigration } from "./stored.ts";

const root = (claimName: string): Disk => ({ name: "root", readOnly: false, persistentVolumeClaim: { claimName } });

interface ClaimChanges {
  readonly storage?: string;
  readonly volumeMode?: string;
  readonly accessModes?: readonly string[];
}

function makeClaim({ server }: Simulation, name: string, changes: ClaimChanges = {}): void {
  const { storage = "1Gi", volumeMode = "Filesystem", accessModes = ["ReadWriteOnce"] } = changes;
  server.write("persistentvolumeclaims", {
    metadata: { name, namespace: "shop" },
    spec: { accessModes, volumeMode, resources: { requests: { storage } } },
    status: { phase: "Bound", capacity: { storage } },
  } as object);
}

/** A machine "web" on claim "a", and claims "b" and "c" beside it. */
async function start(): Promise<Simulation> {
  const simulation = await Simulation.start();
  simulation.node.addNode("node-2");
  for (const name of ["a", "b", "c"]) makeClaim(simulation, name);
  return simulation;
}

function makeMachine({ server }: Simulation, disks: readonly Disk[] = [root("a")], name = "web"): void {
  const { status: _, ...made } = machine({ disks: [...disks], runStrategy: "Always" });
  const { uid: _uid, generation: _generation, ...metadata } = made.metadata;
  server.write("virtualmachines", { ...made, metadata: { ...metadata, name } });
}

function move({ server, clock }: Simulation, name: string, to: string | undefined, disk = "root"): void {
  const creationTimestamp = new Date(clock.now()).toISOString();
  const targetClaims = to === undefined ? {} : { targetClaims: [{ disk, claimName: to }] };
  server.write("virtualmachinemigrations", {
    metadata: { name, namespace: "shop", creationTimestamp },
    spec: { virtualMachineName: "web", priority: "User", ...targetClaims },
  } as object);
}

const migration = ({ server }: Simulation, name = "move") =>
  server.read<StoredMigration>("virtualmachinemigrations", "shop", name);
const phase = (simulation: Simulation, name = "move") => migration(simulation, name)?.status?.phase;
const isOver = (simulation: Simulation, name = "move") =>
  ["Succeeded", "Failed", "Cancelled"].includes(phase(simulation, name) ?? "");
const ready = (simulation: Simulation, name = "move") =>
  migration(simulation, name)?.status?.conditions?.find(({ type }) => type === "Ready");
const web = (simulation: Simulation) => simulation.machine("web");
const conditionOf = (simulation: Simulation, type: string) =>
  web(simulation)?.status?.conditions?.find((each) => each.type === type);
const pods = ({ server }: Simulation) => server.all<Pod>("pods");
const isSettled = (simulation: Simulation) =>
  web(simulation)?.status?.movedDisks?.every(({ nextClaimName }) => nextClaimName === undefined) !== false;
const runs = (simulation: Simulation) => web(simulation)?.status?.phase === "Running" && pods(simulation).length === 1;
const runsOn = (simulation: Simulation, claimName: string) => {
  const [pod] = pods(simulation);
  const volume = pod?.spec?.volumes?.find(({ name }) => name === "disk-root");
  return runs(simulation) && volume?.persistentVolumeClaim?.claimName === claimName;
};

async function running(simulation: Simulation): Promise<void> {
  makeMachine(simulation);
  await simulation.until(
    "it runs",
    () => runsOn(simulation, "a") && conditionOf(simulation, "Migratable") !== undefined,
  );
}

async function moved(simulation: Simulation, name: string, to: string): Promise<void> {
  move(simulation, name, to);
  await simulation.until("it has moved", () => phase(simulation, name) === "Succeeded" && runsOn(simulation, to));
  await simulation.until("that is settled", () => isSettled(simulation));
}

async function restarted(simulation: Simulation): Promise<void> {
  const uid = web(simulation)?.status?.podUID;
  simulation.node.end("GuestTripleFault", 80);
  await simulation.until("it runs again", () => runs(simulation) && web(simulation)?.status?.podUID !== uid);
}

/** The API server takes no writes of those kinds until the answer is called. */
function refuseWrites({ server }: Simulation, isRefused: (plural: string) => boolean): () => void {
  const { intercept } = server;
  const status = { code: 500, reason: "InternalError", message: "away" };
  server.intercept = (request) =>
    request.isWrite && isRefused(request.plural) ? { kind: "answer", status } : intercept?.(request);
  return () => {
    server.intercept = intercept;
  };
}

function name(simulation: Simulation, claimName: string): void {
  simulation.edit("web", (vm) => Object.assign(vm.spec, { disks: [root(claimName)] }));
}

/** There, and a restart. */
async function life(simulation: Simulation): Promise<void> {
  await running(simulation);
  await moved(simulation, "move", "b");
  expect(web(simulation)?.status?.restarts).toBe(0);
  expect(conditionOf(simulation, "RestartRequired")?.status).toBe("False");
  await restarted(simulation);
  expect(runsOn(simulation, "b")).toBe(true);
  expect(web(simulation)?.status?.movedDisks).toEqual([{ name: "root", specClaimName: "a", claimName: "b" }]);
}

describe("a migration with targetClaims", () => {
  it("moves the disk, and the machine is started from there whatever its spec names", async () => {
    await using simulation = await start();
    await life(simulation);
    await moved(simulation, "on", "c");
    await restarted(simulation);
    expect(runsOn(simulation, "c")).toBe(true);
    expect(web(simulation)?.status?.movedDisks).toEqual([{ name: "root", specClaimName: "a", claimName: "c" }]);
    expect(simulation.node.sins).toEqual([]);
    expect(migration(simulation)?.status?.claimsInForce).toBe("Target");
    expect(conditionOf(simulation, "RestartRequired")?.status).toBe("False");
    const [volume] = web(simulation)?.status?.volumes ?? [];
    expect(volume).toMatchObject({ claimName: "c", message: expect.stringContaining("from claim a") });
    expect(simulation.events.map(({ reason }) => reason)).toEqual(expect.arrayContaining(["DiskMoved"]));
  });

  it.each(["before", "after"] as const)(
    "does so when the operator is killed at any one of its writes, %s it is carried out",
    async (when) => {
      const { lives, failures } = await killedAtEachWrite(when, start, { live: life, sins: ({ node }) => node.sins });
      expect(failures).toEqual([]);
      expect(lives).toBeGreaterThan(15);
    },
    300_000,
  );

  it("does not begin before it is recorded at the machine that it may end on another claim", async () => {
    await using simulation = await start();
    await running(simulation);
    const goOn = refuseWrites(simulation, (plural) => plural === "virtualmachines");
    move(simulation, "move", "b");
    await simulation.until("it waits", () => ready(simulation)?.message.startsWith("It is being recorded") === true);
    expect(simulation.node.moves).toBe(0);
    goOn();
    await simulation.until("it has moved", () => phase(simulation) === "Succeeded");
    expect(simulation.node.sins).toEqual([]);
  });

  it("lets the spec follow when it likes: nothing restarts, and the spec is the word again", async () => {
    await using simulation = await start();
    await running(simulation);
    await moved(simulation, "move", "b");
    const uid = web(simulation)?.status?.podUID;
    name(simulation, "b");
    const isSeen = () => web(simulation)?.status?.observedGeneration === web(simulation)?.metadata.generation;
    await simulation.until("it is seen", isSeen);
    expect(conditionOf(simulation, "RestartRequired")?.status).toBe("False");
    expect(web(simulation)?.status?.podUID).toBe(uid);
    // Somebody takes the change back: the guest runs on b all the same.
    name(simulation, "a");
    await simulation.until("it is seen", isSeen);
    await restarted(simulation);
    expect(runsOn(simulation, "b")).toBe(true);
    name(simulation, "b");
    await restarted(simulation);
    await simulation.until("nothing is left to say", () => web(simulation)?.status?.movedDisks === undefined);
    expect(simulation.node.sins).toEqual([]);
  });

  it.each(["c", "a"])(
    "moves on to claim %s once the spec has followed, and is not sent back to what that names",
    async (to) => {
      await using simulation = await start();
      await running(simulation);
      await moved(simulation, "move", "b");
      name(simulation, "b");
      await simulation.until("it is seen", () => {
        return web(simulation)?.status?.observedGeneration === web(simulation)?.metadata.generation;
      });
      await moved(simulation, "on", to);
      expect(web(simulation)?.status?.movedDisks).toEqual([{ name: "root", specClaimName: "b", claimName: to }]);
      expect(conditionOf(simulation, "RestartRequired")?.status).toBe("False");
      await restarted(simulation);
      expect(runsOn(simulation, to)).toBe(true);
      expect(simulation.node.sins).toEqual([]);
    },
  );

  it("gives way to a third claim that the spec names, at the next restart, which it says", async () => {
    await using simulation = await start();
    await running(simulation);
    await moved(simulation, "move", "b");
    name(simulation, "c");
    await simulation.until("it is said", () => conditionOf(simulation, "RestartRequired")?.status === "True");
    expect(runsOn(simulation, "b")).toBe(true);
    await restarted(simulation);
    expect(runsOn(simulation, "c")).toBe(true);
    expect(web(simulation)?.status?.movedDisks).toBeUndefined();
  });

  it("moves the disk back to a claim of the name that the spec has", async () => {
    await using simulation = await start();
    await running(simulation);
    await moved(simulation, "move", "b");
    await moved(simulation, "back", "a");
    expect(web(simulation)?.status?.movedDisks).toBeUndefined();
    await restarted(simulation);
    expect(runsOn(simulation, "a")).toBe(true);
    expect(simulation.node.sins).toEqual([]);
  });

  it("does not fall back to the old claim when the new one is gone", async () => {
    await using simulation = await start();
    await running(simulation);
    await moved(simulation, "move", "b");
    simulation.server.erase("persistentvolumeclaims", "shop", "b");
    simulation.node.end("GuestTripleFault", 80);
    await simulation.until("it says so", () => conditionOf(simulation, "Ready")?.reason === "ClaimNotFound");
    expect(conditionOf(simulation, "Ready")?.message).toContain("PersistentVolumeClaim b of disk root");
    expect(pods(simulation)).toEqual([]);
  });
});

describe("a migration with targetClaims of mode Block", () => {
  const placesOf = (simulation: Simulation) => {
    const container = pods(simulation)[0]?.spec?.containers[0];
    const { volumeMounts = [], volumeDevices = [] } = container ?? {};
    return [volumeMounts, volumeDevices].map((places) => places.filter(({ name }) => name === "disk-root").length);
  };

  it("moves a disk from a file to a device, on to another one and back, and starts from where it is", async () => {
    await using simulation = await start();
    for (const name of ["x", "y"]) makeClaim(simulation, name, { volumeMode: "Block" });
    await running(simulation);
    for (const [to, places] of [
      ["x", [0, 1]],
      ["y", [0, 1]],
      ["c", [1, 0]],
      ["x", [0, 1]],
    ] as const) {
      await moved(simulation, `to-${to}-${places}`.replace(",", "-") + pods(simulation)[0]?.metadata?.name, to);
      expect(placesOf(simulation)).toEqual(places);
      await restarted(simulation);
      expect(runsOn(simulation, to)).toBe(true);
      expect(placesOf(simulation)).toEqual(places);
      expect(conditionOf(simulation, "RestartRequired")?.status).toBe("False");
    }
    expect(simulation.node.sins).toEqual([]);
  });
});

describe("a disk of a claim that volumeClaimTemplates make", () => {
  const disk: Disk = { name: "root", readOnly: false, volumeClaimTemplate: { name: "root" } };
  const volumeClaimTemplates: NonNullable<VirtualMachineSpec["volumeClaimTemplates"]> = [
    {
      metadata: { name: "root" },
      spec: {
        accessModes: ["ReadWriteOnce"],
        volumeMode: "Block",
        storageClassName: "fast",
        resources: { requests: { storage: "1Gi" } },
      },
    },
  ];
  const own = "root-web";
  const claims = ({ server }: Simulation) => server.all("persistentvolumeclaims").map(({ metadata }) => metadata?.name);

  async function started(): Promise<Simulation> {
    const simulation = await start();
    makeClaim(simulation, own, { volumeMode: "Block" });
    makeMachine(simulation, [disk]);
    simulation.edit("web", ({ spec }) => Object.assign(spec, { volumeClaimTemplates }));
    await simulation.until(
      "it runs",
      () => runsOn(simulation, own) && conditionOf(simulation, "Migratable") !== undefined,
    );
    return simulation;
  }

  it("moves to another one, is found there by its machine, and the former one is not made again", async () => {
    await using simulation = await started();
    expect(conditionOf(simulation, "Migratable")?.reason).toBe("TargetClaimsNeeded");
    await moved(simulation, "move", "b");
    expect(web(simulation)?.status?.movedDisks).toEqual([{ name: "root", specClaimName: own, claimName: "b" }]);
    expect(conditionOf(simulation, "RestartRequired")?.status).toBe("False");
    simulation.server.erase("persistentvolumeclaims", "shop", own);
    await restarted(simulation);
    expect(runsOn(simulation, "b")).toBe(true);
    expect(claims(simulation)).not.toContain(own);
    // The spec may follow, as it may with any disk.
    name(simulation, "b");
    const isSeen = () => web(simulation)?.status?.observedGeneration === web(simulation)?.metadata.generation;
    await simulation.until("it is seen", isSeen);
    expect(conditionOf(simulation, "RestartRequired")?.status).toBe("False");
    expect(simulation.node.sins).toEqual([]);
  });

  it("does not move to a claim that another disk's template has made", async () => {
    await using simulation = await start();
    makeClaim(simulation, own, { volumeMode: "Block" });
    makeMachine(simulation, [root("a"), { ...disk, name: "data" }]);
    simulation.edit("web", ({ spec }) => Object.assign(spec, { volumeClaimTemplates }));
    await simulation.until(
      "it runs",
      () => runsOn(simulation, "a") && conditionOf(simulation, "Migratable") !== undefined,
    );
    move(simulation, "move", own);
    await simulation.until("it has failed", () => phase(simulation) === "Failed");
    expect(ready(simulation)?.message).toContain(
      `claim ${own} is what disk data of the machine is on; name an empty one`,
    );
  });
});

describe("a migration with targetClaims that is taken back", () => {
  it("leaves the machine on its claim, and the other one can be used again", async () => {
    await using simulation = await start();
    await running(simulation);
    simulation.node.isSlow = true;
    move(simulation, "move", "b");
    await simulation.until("it copies", () => phase(simulation) === "Copying");
    expect(web(simulation)?.status?.movedDisks).toMatchObject([{ claimName: "a", nextClaimName: "b" }]);
    simulation.server.erase("virtualmachinemigrations", "shop", "move");
    await simulation.until("it is taken back", () => runsOn(simulation, "a"));
    await simulation.until("that is settled", () => web(simulation)?.status?.movedDisks === undefined);
    await restarted(simulation);
    expect(runsOn(simulation, "a")).toBe(true);
    simulation.node.isSlow = false;
    await moved(simulation, "again", "b");
    expect(simulation.node.sins).toEqual([]);
  });

  const breaks = (cut: Cut, claimName: string) => async (simulation: Simulation) => {
    simulation.node.cut = cut;
    await running(simulation);
    move(simulation, "move", "b");
    await simulation.until("it is over", () => isOver(simulation) && runsOn(simulation, claimName));
    await simulation.until("that is settled", () => isSettled(simulation));
    await restarted(simulation);
    expect(runsOn(simulation, claimName)).toBe(true);
  };

  it("is so when its object is deleted, and the operator is killed at any one of its writes", async () => {
    const live = async (simulation: Simulation) => {
      await running(simulation);
      simulation.node.isSlow = true;
      move(simulation, "move", "b");
      await simulation.until("it copies", () => phase(simulation) === "Copying");
      simulation.server.erase("virtualmachinemigrations", "shop", "move");
      await simulation.until("it is taken back", () => runsOn(simulation, "a"));
      await simulation.until("that is settled", () => web(simulation)?.status?.movedDisks === undefined);
      await restarted(simulation);
      expect(runsOn(simulation, "a")).toBe(true);
    };
    const { failures } = await killedAtEachWrite("after", start, { live, sins: ({ node }) => node.sins });
    expect(failures).toEqual([]);
  }, 300_000);

  it.each<[Cut, string]>([
    ["Copying", "a"],
    ["after Commit arrives", "b"],
  ])("or goes on by a link that breaks %s is on one claim", async (cut, claimName) => {
    await using simulation = await start();
    await breaks(cut, claimName)(simulation);
    expect(simulation.node.sins).toEqual([]);
  });

  it("or goes on by a link that breaks before Commit arrives is on one claim, whenever the operator is killed", async () => {
    const live = breaks("before Commit arrives", "b");
    const { failures } = await killedAtEachWrite("after", start, { live, sins: ({ node }) => node.sins });
    expect(failures).toEqual([]);
  }, 300_000);

  const phases = ["Preparing", "Copying", "HandingOver", "Finishing"] as const;
  it.each(phases.flatMap((at) => [[at, "vm-web"] as const, [at, "vm2-web"] as const, [at, "both"] as const]))(
    "as launchers are killed while it is %s (%s) starts from no claim that its guest has left",
    async (at, victim) => {
      await using simulation = await start();
      await running(simulation);
      move(simulation, "move", "b");
      await simulation.until(`it is ${at}`, () => phase(simulation) === at || isOver(simulation));
      for (const pod of victim === "both" ? ["vm-web", "vm2-web"] : [victim]) simulation.node.kill(pod);
      const isStuck = () => conditionOf(simulation, "Ready")?.reason === "DiskUndecided";
      await simulation.until("all is settled", () => {
        return isOver(simulation) && ((runs(simulation) && isSettled(simulation)) || isStuck());
      });
      expect(simulation.node.sins).toEqual([]);
    },
    60_000,
  );
});

describe("a guest that went on in its new pod while no operator looked", () => {
  it("is not sent back when both pods are gone before one looks", async () => {
    await using simulation = await start();
    await running(simulation);
    simulation.node.isSlow = true;
    move(simulation, "move", "b");
    await simulation.until("it copies", () => phase(simulation) === "Copying");
    const goOn = refuseWrites(simulation, () => true);
    simulation.node.isSlow = false;
    await simulation.until("it runs there", () => {
      const uid = web(simulation)?.metadata.uid ?? "";
      return simulation.node.claims.of(uid, "root") === "b";
    });
    for (const pod of ["vm-web", "vm2-web"]) simulation.node.lose(pod);
    simulation.operator.kill();
    goOn();
    await simulation.until("it asks", () => conditionOf(simulation, "Ready")?.reason === "DiskUndecided");
    expect(pods(simulation)).toEqual([]);
    name(simulation, "b");
    await simulation.until("it runs", () => runsOn(simulation, "b"));
    expect(simulation.node.sins).toEqual([]);
  });
});

describe("a machine whose migration was lost with both pods", () => {
  /** Nobody is left to say whether the guest ran on b. */
  async function lost(simulation: Simulation): Promise<void> {
    await running(simulation);
    simulation.node.isSlow = true;
    move(simulation, "move", "b");
    await simulation.until("it copies", () => phase(simulation) === "Copying");
    for (const pod of ["vm-web", "vm2-web"]) simulation.node.lose(pod);
    await simulation.until("it asks", () => conditionOf(simulation, "Ready")?.reason === "DiskUndecided");
    expect(pods(simulation)).toEqual([]);
    expect(migration(simulation)?.status?.claimsInForce).toBe("Undecided");
    expect(conditionOf(simulation, "Ready")?.message).toMatch(/name claim b in spec.disks\[root\].*delete claim b/);
  }

  it("does not start while that is so, off and on or under another operator", async () => {
    await using simulation = await start();
    await lost(simulation);
    for (const runStrategy of ["Halted", "Always"])
      simulation.edit("web", (vm) => Object.assign(vm.spec, { runStrategy }));
    simulation.operator.kill();
    simulation.server.erase("virtualmachinemigrations", "shop", "move");
    const isSeen = () => web(simulation)?.status?.observedGeneration === web(simulation)?.metadata.generation;
    await simulation.until("it asks again", () => isSeen() && conditionOf(simulation, "Ready")?.status === "False");
    expect(conditionOf(simulation, "Ready")?.reason).toBe("DiskUndecided");
    expect(pods(simulation)).toEqual([]);
  });

  it("goes on with the new claim when the spec names it", async () => {
    await using simulation = await start();
    await lost(simulation);
    name(simulation, "b");
    await simulation.until("it runs", () => runsOn(simulation, "b"));
    await simulation.until("nothing is left to say", () => web(simulation)?.status?.movedDisks === undefined);
  });

  it("goes on with the old claim when the new one is deleted", async () => {
    await using simulation = await start();
    await lost(simulation);
    simulation.server.erase("persistentvolumeclaims", "shop", "b");
    await simulation.until("it runs", () => runsOn(simulation, "a"));
    await simulation.until("nothing is left to say", () => web(simulation)?.status?.movedDisks === undefined);
  });
});

describe("targetClaims that cannot be", () => {
  it.each<[string, (simulation: Simulation) => void, string, RegExp]>([
    ["of a disk that there is not", (s) => move(s, "move", "b", "data"), "TargetClaimInvalid", /no disk of that name/],
    ["of the claim that it is on", (s) => move(s, "move", "a"), "TargetClaimInvalid", /is the one that the disk is on/],
    ["of a claim that there is not", (s) => move(s, "move", "z"), "TargetClaimInvalid", /claim z does not exist/],
    [
      "of a claim that is smaller",
      (s) => {
        makeClaim(s, "small", { storage: "512Mi" });
        move(s, "move", "small");
      },
      "TargetClaimInvalid",
      /is smaller \(512Mi\) than the disk \(1Gi\)/,
    ],
    [
      "of a claim of mode Block that is smaller",
      (s) => {
        makeClaim(s, "small", { volumeMode: "Block", storage: "512Mi" });
        move(s, "move", "small");
      },
      "TargetClaimInvalid",
      /is smaller \(512Mi\) than the disk \(1Gi\)/,
    ],
    [
      "of a claim of another machine",
      (s) => {
        makeMachine(s, [root("c")], "other");
        move(s, "move", "c");
      },
      "TargetClaimInvalid",
      /is what VirtualMachine other has/,
    ],
    ["that are not there", (s) => move(s, "move", undefined), "NotMigratable", /spec.targetClaims/],
  ])("%s say so, and leave the machine alone", async (_what, make, reason, message) => {
    await using simulation = await start();
    await running(simulation);
    make(simulation);
    await simulation.until("it has failed", () => phase(simulation) === "Failed");
    expect(ready(simulation)).toMatchObject({ reason, message: expect.stringMatching(message) });
    expect(pods(simulation).some(({ metadata }) => metadata?.name === "vm2-web")).toBe(false);
    expect(web(simulation)?.status?.movedDisks).toBeUndefined();
  });

  it("are told of beforehand", async () => {
    await using simulation = await start();
    await running(simulation);
    const condition = () => conditionOf(simulation, "Migratable");
    await simulation.until("it is known", () => condition()?.status === "False");
    expect(condition()).toMatchObject({
      reason: "TargetClaimsNeeded",
      message: expect.stringMatching(/claim a, which is ReadWriteOnce.*empty claim for disk root in spec.targetClaims/),
    });
  });
});
