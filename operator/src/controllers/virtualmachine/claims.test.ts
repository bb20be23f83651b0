import { describe, expect, it } from "@jest/globals";
import type { Disk } from "../../../../crds/src/disk.ts";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { Pod } from "../../runtime/wire.ts";
import { type ClaimFacts, type Claims, templateClaimName, trimClaim } from "./claims.ts";
import { decide } from "./decide.ts";
import type { Observation } from "./observation.ts";
import { createWorld, observe, type StoredVirtualMachine } from "./observe.ts";
import type { Decision } from "./plan.ts";
import { at, claim, launcherSays, machine, NOW_MS, node, observation, podOf, settings } from "./testing/fixtures.ts";
import { Simulation } from "./testing/simulation.ts";

const GIB = 2 ** 30;
const data = (readOnly = false): Disk => ({ name: "data", readOnly, persistentVolumeClaim: { claimName: "c" } });
const withClaim = (readOnly = false) => machine({ disks: [data(readOnly)] });
const look = (o: Observation) => decide(o, settings, NOW_MS);
const kinds = (decision: Decision) => decision.actions.map(({ kind }) => kind);
const statusOf = (decision: Decision): VirtualMachineStatus =>
  decision.actions.flatMap((action) => (action.kind === "write-status" ? [action.status] : []))[0] ?? {};
const readyOf = (decision: Decision) => statusOf(decision).conditions?.find(({ type }) => type === "Ready");
const stalledOf = (decision: Decision) =>
  statusOf(decision).conditions?.find(({ type }) => type === "Stalled")?.status === "True";

describe("a machine whose claim", () => {
  const pending: Partial<ClaimFacts> = { phase: "Pending", capacityBytes: undefined };

  it.each<[string, Claims, Disk, string, boolean, RegExp]>([
    ["does not exist", {}, data(), "ClaimNotFound", false, /PersistentVolumeClaim c of disk data does not exist/],
    ["is lost", { c: claim("c", { phase: "Lost" }) }, data(), "ClaimLost", true, /PersistentVolumeClaim c/],
    ["is being deleted", { c: claim("c", { deleting: true }) }, data(), "ClaimDeleting", true, /Claim c of disk data/],
    [
      "can only be read",
      { c: claim("c", { accessModes: ["ReadOnlyMany"] }) },
      data(),
      "ClaimReadOnly",
      true,
      /readOnly: true/,
    ],
    [
      "is of an image, and nobody has looked after it yet",
      { c: claim("c", { ...pending, import: { imageName: "debian", state: undefined, isPopulated: false } }) },
      data(),
      "ClaimImporting",
      false,
      /Claim c of disk data begins with VirtualMachineImage debian/,
    ],
    [
      "would begin empty rather than with its image",
      { c: claim("c", { import: { imageName: "debian", state: "Refused: it is empty", isPopulated: false } }) },
      data(),
      "ClaimNotPopulated",
      true,
      /Claim c of disk data: it is empty/,
    ],
    [
      "has another volume than the one that was filled",
      { c: claim("c", { import: { imageName: "debian", state: "Importing (40%)", isPopulated: false } }) },
      data(),
      "ClaimImporting",
      false,
      /VirtualMachineImage debian/,
    ],
  ])("%s is not started, and says so", (_what, claims, disk, reason, stalled, message) => {
    const decision = look(observation(machine({ disks: [disk] }), { claims }));
    expect(kinds(decision)).toEqual(["write-status"]);
    expect(readyOf(decision)).toMatchObject({ status: "False", reason, message: expect.stringMatching(message) });
    expect(stalledOf(decision)).toBe(stalled);
  });

  it.each<[string, Claims, Disk]>([
    ["is bound", { c: claim("c") }, data()],
    ["can only be read, as its disk", { c: claim("c", { accessModes: ["ReadOnlyMany"] }) }, data(true)],
    ["waits for its first consumer", { c: claim("c", pending) }, data()],
    [
      "waits for its first consumer to be filled",
      { c: claim("c", { ...pending, import: { imageName: "debian", state: "Waiting", isPopulated: false } }) },
      data(),
    ],
    [
      "is filled from its image",
      { c: claim("c", { import: { imageName: "debian", state: undefined, isPopulated: true } }) },
      data(),
    ],
  ])("%s is started", (_what, claims, disk) => {
    expect(look(observation(machine({ disks: [disk] }), { claims })).actions).toEqual([
      { kind: "start", restarts: 0, claims },
    ]);
  });

  it("is being filled says so while its pod has no node, with how far that is", () => {
    const vm = withClaim();
    const importing = { imageName: "debian", state: "Importing (40%)", isPopulated: false };
    const claims = { c: claim("c", { ...pending, import: importing }) };
    const pod = podOf(vm, "unscheduled", claims);
    expect(readyOf(look(observation(vm, { pod, claims })))).toMatchObject({
      reason: "ClaimImporting",
      message: expect.stringMatching(/Claim c of disk data is being filled from .* debian: Importing \(40%\)$/),
    });
  });

  it("that cannot be filled says so with the figures, and waits for somebody", () => {
    const vm = withClaim();
    const state = "Failed: the disk has 33554432 bytes (32Mi), and the volume 16777216 (16Mi)";
    const claims = { c: claim("c", { ...pending, import: { imageName: "debian", state, isPopulated: false } }) };
    const decision = look(observation(vm, { pod: podOf(vm, "unscheduled", claims), claims }));
    expect(readyOf(decision)).toMatchObject({
      reason: "ClaimImporting",
      message: expect.stringMatching(/Claim c of disk data .* 33554432 bytes \(32Mi\), and the volume 16777216/),
    });
    expect(stalledOf(decision)).toBe(true);
  });

  it("is not bound says so while its pod has no node, with the scheduler's words", () => {
    const vm = withClaim();
    const claims = { c: claim("c", pending) };
    const pod = podOf(vm, "unscheduled", claims);
    const message = "pod has unbound immediate PersistentVolumeClaims";
    const condition = { type: "PodScheduled", status: "False", reason: "Unschedulable", message };
    const waiting: Pod = { ...pod, status: { ...pod.status, conditions: [condition] } };
    const decision = look(observation(vm, { pod: waiting, claims }));
    expect(readyOf(decision)).toMatchObject({
      reason: "ClaimNotBound",
      message: `PersistentVolumeClaim c of disk data (StorageClass fast) is not bound to a volume yet; the scheduler says: ${message}`,
    });
    const nodes = [{ ...node, kvmDevices: 0 }];
    expect(readyOf(look(observation(vm, { pod: waiting, claims, nodes })))?.reason).toBe("Unschedulable");
  });

  it("is lost while its pod waits says so", () => {
    const vm = withClaim();
    const pod = podOf(vm, "scheduled", { c: claim("c") });
    expect(readyOf(look(observation(vm, { pod, claims: { c: claim("c", { phase: "Lost" }) } })))?.reason).toBe(
      "ClaimLost",
    );
  });
});

describe("of two machines with one claim", () => {
  const named = (name: string, uid: string, createdAt: string, changes: Partial<StoredVirtualMachine> = {}) => {
    const vm = { ...withClaim(), ...changes };
    vm.metadata = { ...vm.metadata, name, uid, creationTimestamp: createdAt, resourceVersion: "1" };
    return vm;
  };
  const stored = (facts: ClaimFacts) => ({ metadata: { name: "c", namespace: "shop", resourceVersion: "1" }, facts });
  const older = () => named("older", "u2", at(-100));
  const younger = () => named("younger", "u1", at(-50));

  /** What is decided about `vm` in a world of both machines and these pods. */
  function decided(vm: StoredVirtualMachine, others: StoredVirtualMachine[], pods: Pod[] = []) {
    const world = createWorld();
    for (const each of [vm, ...others]) world.virtualMachines.put(each);
    for (const pod of pods) world.pods.put({ ...pod, metadata: { ...pod.metadata, resourceVersion: "1" } });
    world.claims.put(stored(claim("c", { accessModes: ["ReadWriteMany"] })));
    const nothing = { launcher: () => undefined, warnings: () => undefined, departed: undefined };
    return look(observe(world, vm, { ...nothing, refusals: { claims: {}, devices: {} }, trustId: "t" }));
  }
  const refusal = (decision: Decision) => ({ kinds: kinds(decision), ready: readyOf(decision) });
  const inUseBy = (name: string) => ({
    kinds: ["write-status"],
    ready: expect.objectContaining({
      reason: "ClaimInUse",
      message: expect.stringContaining(`VirtualMachine ${name}`),
    }),
  });
  const running = (vm: StoredVirtualMachine) => podOf(vm, "running", { c: claim("c") });
  const ended = (pod: Pod): Pod => ({ ...pod, status: { phase: "Succeeded" } });

  it("the older one starts, and the younger one is told by whom it is kept", () => {
    expect(kinds(decided(older(), [younger()]))).toEqual(["start"]);
    expect(refusal(decided(younger(), [older()]))).toEqual(inUseBy("older"));
  });

  it("made in one second, one of them starts", () => {
    const [a, b] = [named("a", "u1", at(0)), named("b", "u2", at(0))];
    expect(kinds(decided(a, [b]))).toEqual(["start"]);
    expect(refusal(decided(b, [a]))).toEqual(inUseBy("a"));
  });

  it("the one that runs keeps it, though it is younger", () => {
    expect(refusal(decided(older(), [younger()], [running(younger())]))).toEqual(inUseBy("younger"));
  });

  it("the one that runs keeps it though its spec names another by now, or it is gone but for its pod", () => {
    const changed = { ...younger(), spec: { ...younger().spec, disks: [] } };
    expect(refusal(decided(older(), [changed], [running(younger())]))).toEqual(inUseBy("younger"));
    expect(refusal(decided(older(), [], [running(younger())]))).toEqual(inUseBy("younger"));
  });

  it.each<[string, StoredVirtualMachine]>([
    ["halted", { ...older(), spec: { ...older().spec, runStrategy: "Halted" } }],
    ["off for good", { ...older(), status: { phase: "Stopped" } }],
    ["unable to start", { ...older(), status: { phase: "Failed" } }],
    ["being deleted", { ...older(), metadata: { ...older().metadata, deletionTimestamp: at(-1) } }],
  ])("one that is %s keeps nobody", (_how, other) => {
    expect(kinds(decided(younger(), [other]))).toEqual(["start"]);
    expect(kinds(decided(younger(), [other], [ended(running(other))]))).toEqual(["start"]);
  });

  it("both start where both only read, and neither disturbs the other where one writes", () => {
    const reading = (vm: StoredVirtualMachine) => ({ ...vm, spec: { ...vm.spec, disks: [data(true)] } });
    const reader = reading(older());
    expect(kinds(decided(reading(younger()), [reader], [running(reader)]))).toEqual(["start"]);
    expect(refusal(decided(younger(), [reader], [running(reader)]))).toEqual(inUseBy("older"));
    expect(refusal(decided(reading(younger()), [older()]))).toEqual(inUseBy("older"));
  });
});

describe("in a cluster, of two machines with one claim", () => {
  async function contest() {
    const simulation = await Simulation.start();
    const { server } = simulation;
    server.write("persistentvolumeclaims", {
      metadata: { name: "c", namespace: "shop" },
      spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
      status: { phase: "Bound", capacity: { storage: "1Gi" } },
    } as object);
    const create = (name: string, createdAt: string, runStrategy: "Always" | "Halted") => {
      const { metadata, ...vm } = machine({ disks: [data()], runStrategy });
      const made = { name, namespace: metadata.namespace ?? "", creationTimestamp: createdAt };
      server.write("virtualmachines", { ...vm, metadata: made });
    };
    const of = (name: string) => simulation.machine(name)?.status;
    const reasonOf = (name: string) => of(name)?.conditions?.find(({ type }) => type === "Ready")?.reason;
    /** Waits, and sees at each step that no two pods have the claim. */
    const until = (what: string, done: () => boolean) =>
      simulation.until(what, () => {
        expect(server.all<Pod>("pods").filter((pod) => pod.status?.phase !== "Succeeded").length).toBeLessThan(2);
        return done();
      });
    return { simulation, create, of, reasonOf, until };
  }

  it("made at the same time, one runs, and the other once that is halted", async () => {
    const { simulation, create, of, reasonOf, until } = await contest();
    await using _ = simulation;
    create("b", at(-50), "Always");
    create("a", at(-50), "Always");
    await until("one runs and one is told", () =>
      ["a,b", "b,a"].some((pair) => {
        const [first = "", second = ""] = pair.split(",");
        return of(first)?.phase === "Running" && reasonOf(second) === "ClaimInUse";
      }),
    );
    const first = of("a")?.phase === "Running" ? "a" : "b";
    const second = first === "a" ? "b" : "a";
    simulation.edit(first, (vm) => Object.assign(vm.spec, { runStrategy: "Halted" }));
    await until("the other runs", () => of(second)?.phase === "Running");
  });

  it("one that is restarted keeps it, though the other is older", async () => {
    const { simulation, create, of, reasonOf, until } = await contest();
    await using _ = simulation;
    create("older", at(-100), "Halted");
    create("younger", at(-50), "Always");
    await until("the younger runs", () => of("younger")?.phase === "Running");
    simulation.edit("older", (vm) => Object.assign(vm.spec, { runStrategy: "Always" }));
    await until("the older is told", () => reasonOf("older") === "ClaimInUse");
    simulation.node.end("GuestTripleFault", 80);
    await until("the crash is counted", () => of("younger")?.phase === "CrashBackOff");
    await until("the younger runs again", () => of("younger")?.phase === "Running");
    expect(reasonOf("older")).toBe("ClaimInUse");
    const before = of("younger")?.podUID;
    simulation.server.edit("pods", "shop", "vm-younger", (pod) => {
      pod.metadata = { ...pod.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" };
    });
    await until("another pod", () => of("younger")?.phase === "Running" && of("younger")?.podUID !== before);
    expect(reasonOf("older")).toBe("ClaimInUse");
  });
});

describe("a machine that runs", () => {
  const runningOn = (
    seenBytes: number,
    facts: ClaimFacts,
    changes: { readOnly?: boolean; state?: "Starting" } = {},
  ) => {
    const vm = withClaim();
    const claims = { c: facts };
    const pod = podOf(vm, "running", claims);
    const { readOnly = false, state = "Running" } = changes;
    const launcher = launcherSays(pod, { state, disks: [{ name: "data", sizeBytes: seenBytes, readOnly }] });
    return look(observation(vm, { pod, launcher, claims }));
  };
  const resizes = (decision: Decision) => decision.actions.filter(({ kind }) => kind === "resize-disk");

  it("has its disk grow when its claim has", () => {
    const decision = runningOn(10 * GIB, claim("c", { capacityBytes: 20 * GIB }));
    expect(resizes(decision)).toMatchObject([{ disk: "data", sizeBytes: 20 * GIB, ip: "10.0.0.7" }]);
    expect(statusOf(decision).conditions?.find(({ type }) => type === "RestartRequired")?.status).toBe("False");
  });

  it.each<[string, Decision]>([
    ["as large as its claim", runningOn(10 * GIB, claim("c"))],
    ["larger", runningOn(11 * GIB, claim("c"))],
    ["as large, but for a part of a sector", runningOn(10 * GIB, claim("c", { capacityBytes: 10 * GIB + 100 }))],
    ["read-only", runningOn(10 * GIB, claim("c", { capacityBytes: 20 * GIB }), { readOnly: true })],
    ["yet to be opened", runningOn(10 * GIB, claim("c", { capacityBytes: 20 * GIB }), { state: "Starting" })],
  ])("leaves a disk alone that is %s", (_what, decision) => {
    expect(resizes(decision)).toEqual([]);
  });

  it("leaves a disk alone whose claim is another one than the spec names by now", () => {
    const pod = podOf(withClaim(), "running", { c: claim("c") });
    const vm = machine({ disks: [{ ...data(), persistentVolumeClaim: { claimName: "larger" } }] });
    const claims = { larger: claim("larger", { capacityBytes: 20 * GIB }) };
    const disks = [{ name: "data", sizeBytes: 10 * GIB, readOnly: false }];
    expect(resizes(look(observation(vm, { pod, claims, launcher: launcherSays(pod, { disks }) })))).toEqual([]);
  });

  it("tells of a claim that is smaller than the disk on it, or than its template, with both figures", () => {
    const messageOf = (decision: Decision) => statusOf(decision).volumes?.[0]?.message;
    expect(messageOf(runningOn(12 * GIB, claim("c")))).toMatch(/Claim c has 10Gi, and the guest's disk 12Gi/);
    expect(messageOf(runningOn(10 * GIB, claim("c")))).toBeUndefined();
    const template = (storage: string) => ({
      metadata: { name: "root" },
      spec: {
        accessModes: ["ReadWriteOnce" as const],
        volumeMode: "Filesystem" as const,
        resources: { requests: { storage } },
      },
    });
    const of = (storage: string, facts: Partial<ClaimFacts> = {}) => {
      const disk = { name: "root", readOnly: false, volumeClaimTemplate: { name: "root" } };
      const vm = machine({ disks: [disk], volumeClaimTemplates: [template(storage)] });
      const claimName = templateClaimName("root", vm.metadata.name ?? "");
      const claims = { [claimName]: claim(claimName, facts) };
      const pod = podOf(vm, "running", claims);
      return messageOf(look(observation(vm, { pod, claims, launcher: launcherSays(pod, { disks: [] }) })));
    };
    expect(of("20Gi")).toMatch(
      /Claim root-\w+ has 10Gi, and spec.volumeClaimTemplates asks for 20Gi: .* requests.storage$/,
    );
    expect(of("10Gi")).toBeUndefined();
    expect(of("20Gi", { vmName: machine({}).metadata.name ?? "" })).toBeUndefined();
  });

  it("tells of its disks what it knows", () => {
    expect(statusOf(runningOn(12 * GIB, claim("c", { mode: "Block" }))).volumes).toEqual([
      {
        name: "data",
        source: "persistentVolumeClaim",
        claimName: "c",
        phase: "Bound",
        volumeMode: "Block",
        size: "12Gi",
      },
    ]);
    expect(statusOf(look(observation(withClaim()))).volumes).toEqual([
      { name: "data", source: "persistentVolumeClaim", claimName: "c", phase: "Missing" },
    ]);
  });

  it("and whose storage is full is paused with the disk's name, and not asked to go on", () => {
    const vm = withClaim();
    const claims = { c: claim("c") };
    const pod = podOf(vm, "running", claims);
    const pause = { asked: false, storageFull: ["data"] };
    const decision = look(observation(vm, { pod, claims, launcher: launcherSays(pod, { state: "Paused", pause }) }));
    expect(kinds(decision)).not.toContain("resume");
    expect(readyOf(decision)).toMatchObject({ reason: "StorageFull", message: expect.stringContaining("disk data") });
    expect(statusOf(decision)).toMatchObject({ phase: "Paused" });
    // A new operator that has not heard the launcher yet leaves what its predecessor wrote.
    const seen = { ...vm, status: statusOf(decision) };
    expect(kinds(look(observation(seen, { pod, claims })))).not.toContain("write-status");
  });

  it("and whose storage is full stays paused, once there is room, where the spec asks for it", () => {
    const vm = machine({ disks: [data()], paused: true });
    const claims = { c: claim("c") };
    const pod = podOf(vm, "running", claims);
    const says = (asked: boolean) =>
      observation(vm, {
        pod,
        claims,
        launcher: launcherSays(pod, { state: "Paused", pause: { asked, storageFull: ["data"] } }),
      });
    expect(kinds(look(says(false)))).toContain("pause");
    expect(kinds(look(says(true)))).not.toContain("pause");
  });
});

it("a claim is read as the API server shows it", () => {
  const claimOnTheWire = {
    metadata: { name: "c", namespace: "shop", uid: "u", resourceVersion: "7", labels: { a: "b" } },
    spec: {
      accessModes: ["ReadWriteOnce"],
      volumeMode: "Block",
      storageClassName: "fast",
      resources: { requests: { storage: "1Gi" } },
    },
    status: { phase: "Bound", capacity: { storage: "2Gi" } },
  };
  expect(trimClaim(claimOnTheWire)).toEqual({
    metadata: { name: "c", namespace: "shop", uid: "u", resourceVersion: "7" },
    facts: claim("c", { mode: "Block", requestBytes: GIB, capacityBytes: 2 * GIB }),
  });
  expect(trimClaim({ metadata: { name: "c" } }).facts).toMatchObject({ phase: "Pending", capacityBytes: undefined });
});
