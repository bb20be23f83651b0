import { describe, expect, it } from "@jest/globals";
import type { Disk } from "../../../../crds/src/disk.ts";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { LauncherStatus } from "../../../../launcher/api/control.ts";
import { attachmentPod } from "./attachment-pod.ts";
import type { ClaimFacts } from "./claims.ts";
import { decide } from "./decide.ts";
import { macOf } from "./interfaces.ts";
import type { Observation } from "./observation.ts";
import {
  at,
  claim,
  endedPod,
  lastWord,
  launcherSays,
  machine,
  NOW_MS,
  networkInterface,
  observation,
  podOf,
  settings,
  VM_UID,
} from "./testing/fixtures.ts";

const data: Disk = { name: "data", readOnly: false, persistentVolumeClaim: { claimName: "web-data" } };
const readOnly: Disk = { ...data, readOnly: true };
const shared = claim("web-data", { accessModes: ["ReadWriteMany"] });

interface Seen {
  readonly spec?: Partial<VirtualMachineSpec>;
  readonly launcher?: Partial<LauncherStatus>;
  readonly world?: Partial<Observation>;
}

/** The condition of a machine that runs, with what the launcher says and the world as given. */
function condition({ spec = {}, launcher = { cannotMove: [] }, world = {} }: Seen) {
  const vm = machine({ disks: [], ...spec });
  const pod = podOf(vm, "running", world.claims ?? {});
  const facts = launcherSays(pod, launcher);
  return written(observation(vm, { pod, launcher: facts, ...world }));
}

function written(seen: Observation) {
  const write = decide(seen, settings, NOW_MS).actions.find((action) => action.kind === "write-status");
  return write?.kind === "write-status"
    ? write.status.conditions?.find(({ type }) => type === "Migratable")
    : undefined;
}

describe("Migratable", () => {
  it("holds for a machine in whose way nothing is", () => {
    expect(condition({})).toMatchObject({ status: "True", reason: "AsExpected" });
    const claims = { "web-data": shared };
    expect(condition({ spec: { disks: [data] }, world: { claims } })).toMatchObject({ status: "True" });
    const many = { "web-data": claim("web-data", { accessModes: ["ReadOnlyMany"] }) };
    expect(condition({ spec: { disks: [readOnly] }, world: { claims: many } })).toMatchObject({ status: "True" });
  });

  it.each<[string, Disk, Partial<ClaimFacts>, string, RegExp]>([
    [
      "a claim that one node has",
      data,
      { accessModes: ["ReadWriteOnce"] },
      "TargetClaimsNeeded",
      /data is on claim web-data, which is ReadWriteOnce.*is ReadWriteMany, or name an empty claim for disk data in spec\.targetClaims/,
    ],
    [
      "a claim that one pod has",
      data,
      { accessModes: ["ReadWriteOncePod"] },
      "TargetClaimsNeeded",
      /ReadWriteOncePod.*targetClaims/,
    ],
    [
      "a claim that many may only read, written to",
      data,
      { accessModes: ["ReadOnlyMany"] },
      "TargetClaimsNeeded",
      /Use a claim that is ReadWriteMany/,
    ],
    [
      "a claim that one node has, only read",
      readOnly,
      {},
      "DiskNotMigratable",
      /Use a claim that is ReadOnlyMany or ReadWriteMany \(spec\.targetClaims does not help: the disk is readOnly/,
    ],
    ["a Block claim", data, { mode: "Block" }, "TargetClaimsNeeded", /or name an empty claim for disk data/],
    [
      "a claim of a template",
      { name: "data", readOnly: false, volumeClaimTemplate: { name: "web" } },
      { name: "web-web" },
      "TargetClaimsNeeded",
      /data is on claim web-web, .*or name an empty claim for disk data in spec\.targetClaims/,
    ],
  ])("does not hold with %s", (_, disk, facts, reason, message) => {
    const found = claim("web-data", facts);
    expect(condition({ spec: { disks: [disk] }, world: { claims: { [found.name]: found } } })).toMatchObject({
      status: "False",
      reason,
      message: expect.stringMatching(message),
    });
  });

  it("does not hold with a disk that came while the machine ran", () => {
    const claims = { "web-data": shared };
    const vm = machine();
    const launcher = podOf(vm, "running");
    const attachment = attachmentPod(vm, {
      settings,
      name: "web-data-1",
      disk: data,

      claims,
      launcher,
    });
    expect(condition({ spec: { disks: [data] }, world: { claims, attachments: [attachment] } })).toMatchObject({
      status: "False",
      reason: "DiskNotMigratable",
      message: expect.stringMatching(/^Disk data came while the machine ran.*restart/),
    });
  });

  it("does not hold with an interface that has the pod's address", () => {
    const interfaces = [{ name: "default", state: "Up" as const, podIP: {} }];
    expect(condition({ spec: { interfaces } })).toMatchObject({ status: "False", reason: "InterfaceNotMigratable" });
  });

  it("does not hold with an interface whose MAC address is its network's own, as a vlan's is", () => {
    const storage = { name: "storage", state: "Up" as const, multus: { networkName: "vlan-5" } };
    const spec = { interfaces: [storage] };
    const seen = (mac: string) => ({ cannotMove: [], interfaces: [networkInterface("storage", { mac })] });
    const asked = macOf(VM_UID, storage);
    expect(condition({ spec, launcher: seen(asked) })).toMatchObject({ status: "True" });
    expect(condition({ spec, launcher: seen("52:54:00:1e:00:0b") })).toMatchObject({
      status: "False",
      reason: "InterfaceNotMigratable",
      message: expect.stringMatching(/^Interface storage has MAC address 52:54:00:1e:00:0b .* bridge or macvlan$/),
    });
  });

  it("has the launcher's words, all of them, behind what the cluster says", () => {
    const claims = { "web-data": claim("web-data") };
    const cannotMove = ["disk root is on storage of this process's own", "disk data has changes beyond its image"];
    const seen = condition({ spec: { disks: [data] }, launcher: { cannotMove }, world: { claims } });
    // Other claims alone would not help.
    expect(seen).toMatchObject({ status: "False", reason: "LauncherNotMigratable" });
    expect(seen?.message).toMatch(/^Disk data is on claim.*; Disk root is on storage.*; Disk data has changes/);
    expect(condition({ launcher: { cannotMove } })).toMatchObject({ reason: "LauncherNotMigratable" });
  });

  it("does not hold while the storage of a disk is full", () => {
    const pause = { asked: false, storageFull: ["root"] };
    expect(condition({ launcher: { state: "Paused", pause, cannotMove: [] } })).toMatchObject({
      status: "False",
      reason: "StorageFull",
    });
  });

  it("does not hold with a launcher that knows nothing of it", () => {
    expect(condition({ launcher: {} })).toMatchObject({
      status: "False",
      reason: "LauncherNotMigratable",
      message: expect.stringMatching(/^Launcher 1\.2\.3 .*Restart the machine/),
    });
  });

  it("does not hold for a machine that does not run", () => {
    const off = machine({ runStrategy: "Halted" });
    expect(written(observation(off))).toMatchObject({ status: "False", reason: "NotRunning" });
    const vm = machine();
    expect(written(observation(vm, { pod: podOf(vm, "scheduled") }))).toMatchObject({ reason: "NotRunning" });
    const crashed = endedPod(vm, { exitCode: 80, message: lastWord("GuestTripleFault") });
    expect(written(observation(vm, { pod: crashed }))).toMatchObject({ status: "False", reason: "NotRunning" });
  });

  it("stays as it was until a new operator has heard from the launcher, and only of the same pod", () => {
    const vm = machine({ disks: [] });
    const pod = podOf(vm, "running");
    const first = decide(observation(vm, { pod, launcher: launcherSays(pod, { cannotMove: [] }) }), settings, NOW_MS);
    const write = first.actions.find((action) => action.kind === "write-status");
    if (write?.kind !== "write-status") throw new Error("no status");
    const later = { ...vm, status: write.status };
    // Nothing to write: as it was.
    expect(written(observation(later, { pod }))).toBeUndefined();
    const other = { ...pod, metadata: { ...pod.metadata, uid: "another" } };
    expect(written(observation(later, { pod: other }))).not.toMatchObject({ status: "True" });
  });

  it("is not known while the node does not answer", () => {
    const vm = machine({ disks: [] });
    const pod = podOf(vm, "running");
    const lost = { ...pod, metadata: { ...pod.metadata, deletionTimestamp: at(0) } };
    expect(written(observation(vm, { pod: lost, node: null }))).toMatchObject({ status: "Unknown" });
  });
});
