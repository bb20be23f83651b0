import { describe, expect, it } from "@jest/globals";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { Pod } from "../../runtime/wire.ts";
import { driftedFields, fieldDigests } from "../virtualmachine/drift.ts";
import { withMovedDisks } from "../virtualmachine/moved-disks.ts";
import { annotations } from "../virtualmachine/names.ts";
import { claim, machine, POD_UID, podOf, settings } from "../virtualmachine/testing/fixtures.ts";
import { MIGRATION_UID, migrationOf } from "../virtualmachine/testing/migration-fixtures.ts";
import { type CopiedDisk, targetPod } from "./target-pod.ts";

const cpu = { guest: undefined, nodes: [] };
const zone = { key: "zone", operator: "In", values: ["a"] };

function target(changes: Partial<VirtualMachineSpec> = {}, spec = {}, source?: Pod): Pod {
  const vm = machine({ disks: [], ...changes });
  const migration = migrationOf(undefined, spec);
  return targetPod({
    migration,
    vm,
    source: source ?? podOf(vm, "running"),
    name: "vm2-web",
    settings,
    cpu,
    copied: [],
  });
}
const terms = (pod: Pod) =>
  pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
const otherNode = { key: "metadata.name", operator: "NotIn", values: ["node-1"] };

describe("the pod that a machine moves to", () => {
  it("is the old one once more, which waits to take over", () => {
    const source = podOf(machine({ disks: [] }), "running");
    const pod = target();
    expect(pod.metadata).toMatchObject({
      name: "vm2-web",
      labels: source.metadata?.labels,
      ownerReferences: source.metadata?.ownerReferences,
      annotations: { [annotations.migration]: MIGRATION_UID, [annotations.takesOverFrom]: POD_UID },
    });
    expect(pod.metadata?.uid).toBeUndefined();
    expect(pod.spec?.nodeName).toBeUndefined();
    expect(pod.spec?.volumes).toEqual(source.spec?.volumes);
    const [container] = pod.spec?.containers ?? [];
    expect(container?.args).toEqual(["run", "/etc/typevisor/machine/machine.json", "--receive"]);
    expect(container?.resources).toEqual(source.spec?.containers[0]?.resources);
    // However long it takes, and whatever probes the guest has.
    expect(container?.startupProbe).toMatchObject({ periodSeconds: 1, failureThreshold: 2 ** 31 - 1 });
  });

  it("is as the old one was, not as the spec is by now, but has the launcher of today and says so", () => {
    const source = podOf(machine({ disks: [] }), "running");
    const vm = machine({ disks: [], memory: { size: "4Gi" } });
    const newer = { ...settings, launcherImage: "registry.example/launcher:2" };
    const inputs = { migration: migrationOf(undefined), vm, source, name: "vm2-web", settings: newer, cpu, copied: [] };
    const pod = targetPod(inputs);
    expect(pod.spec?.containers[0]?.image).toBe("registry.example/launcher:2");
    expect(pod.spec?.containers[0]?.resources).toEqual(source.spec?.containers[0]?.resources);
    const started = JSON.parse(pod.metadata?.annotations?.[annotations.startedWith] ?? "");
    expect(started).toEqual(fieldDigests(machine({ disks: [] }).spec, newer));
  });

  it("takes nothing along of what was written about the old one, nor of what others put into it", () => {
    const source = podOf(machine({ disks: [], template: { metadata: { annotations: { team: "a" } } } }), "running");
    Object.assign(source.metadata?.annotations ?? {}, {
      "cni.example/podIP": "10.0.0.7",
      [annotations.takesOverFrom]: "an earlier one",
      [annotations.tookOver]: "2026-01-01T00:00:00Z",
    });
    const [launcher] = source.spec?.containers ?? [];
    if (source.spec && launcher) {
      source.spec.containers = [launcher, { name: "sidecar" }];
      source.spec.ephemeralContainers = [{ name: "debugger" }];
      source.spec.priority = 7;
    }
    const pod = target({ template: { metadata: { annotations: { team: "a" } } } }, {}, source);
    const keys = Object.keys(pod.metadata?.annotations ?? {});
    expect(keys).not.toContain("cni.example/podIP");
    expect(keys).not.toContain(annotations.tookOver);
    expect(pod.metadata?.annotations).toMatchObject({ team: "a", [annotations.takesOverFrom]: POD_UID });
    expect(pod.spec?.containers.map(({ name }) => name)).toEqual(["launcher"]);
    expect(pod.spec).not.toHaveProperty("ephemeralContainers");
    expect(pod.spec).not.toHaveProperty("priority");
  });

  it("has other claims for disks that are copied, says so, and tells its launcher how large they are", () => {
    const disks: VirtualMachineSpec["disks"] = [
      { name: "root", readOnly: false, persistentVolumeClaim: { claimName: "a" } },
      { name: "data", readOnly: false, persistentVolumeClaim: { claimName: "d" } },
    ];
    const vm = machine({ disks });
    const source = podOf(vm, "running", { a: claim("a"), d: claim("d") });
    const to = (claimName: string, sizeBytes: number, from: Pod) => {
      const copied = [{ name: "root", claimName, mode: "Filesystem" as const, sizeBytes }];
      return targetPod({ migration: migrationOf(undefined), vm, source: from, name: "vm2-web", settings, cpu, copied });
    };
    const pod = to("b", 1024, source);
    const claims = pod.spec?.volumes?.flatMap(({ name, persistentVolumeClaim }) =>
      persistentVolumeClaim === undefined ? [] : [[name, persistentVolumeClaim.claimName]],
    );
    expect(claims).toEqual([
      ["disk-root", "b"],
      ["disk-data", "d"],
    ]);
    expect(pod.spec?.containers[0]?.args?.slice(2)).toEqual(["--receive", "--copied=root=1024@/disks/root"]);
    const moved = withMovedDisks(vm, [{ name: "root", specClaimName: "a", claimName: "b" }]);
    expect(driftedFields(pod, fieldDigests(moved.spec, settings))).toEqual([]);
    expect(driftedFields(pod, fieldDigests(vm.spec, settings))).toHaveLength(1);
    // What its launcher was told is not for the next one.
    const next = to("c", 2048, pod).spec?.containers[0]?.args?.slice(2);
    expect(next).toEqual(["--receive", "--copied=root=2048@/disks/root"]);
  });

  it("has a device where the claim is one, a directory where it is none, and tells later launchers where disks are", () => {
    const disks: VirtualMachineSpec["disks"] = [
      { name: "root", readOnly: false, persistentVolumeClaim: { claimName: "a" } },
      { name: "data", readOnly: false, persistentVolumeClaim: { claimName: "d" } },
    ];
    const vm = machine({ disks });
    const source = podOf(vm, "running", { a: claim("a", { mode: "Block" }), d: claim("d") });
    const to = (from: Pod, ...copied: CopiedDisk[]) =>
      targetPod({ migration: migrationOf(undefined), vm, source: from, name: "vm2-web", settings, cpu, copied });
    const disk = (name: string, mode: CopiedDisk["mode"]) => ({ name, claimName: "b", mode, sizeBytes: 1024 });
    const placesOf = (pod: Pod) => {
      const { volumeMounts = [], volumeDevices, args = [] } = pod.spec?.containers[0] ?? {};
      const mounts = volumeMounts.filter(({ name }) => name.startsWith("disk-")).map(({ mountPath }) => mountPath);
      return { mounts, devices: volumeDevices?.map(({ devicePath }) => devicePath), args: args.slice(3) };
    };
    expect(placesOf(to(source, disk("root", "Block")))).toEqual({
      mounts: ["/disks/data"],
      devices: ["/dev/typevisor/root"],
      args: ["--copied=root=1024@/dev/typevisor/root"],
    });
    const inFile = to(source, disk("root", "Filesystem"));
    expect(placesOf(inFile)).toEqual({
      mounts: ["/disks/data", "/disks/root"],
      devices: undefined,
      args: ["--copied=root=1024@/disks/root"],
    });
    const other = to(inFile, disk("data", "Block"));
    const expected = {
      mounts: ["/disks/root"],
      devices: ["/dev/typevisor/data"],
      args: ["--copied=data=1024@/dev/typevisor/data", "--moved=root=1024@/disks/root"],
    };
    expect(placesOf(other)).toEqual(expected);
    expect(placesOf(to(other)).args).toEqual([
      "--moved=data=1024@/dev/typevisor/data",
      "--moved=root=1024@/disks/root",
    ]);
    expect(placesOf(to(other, disk("root", "Block"))).args).toEqual([
      "--copied=root=1024@/dev/typevisor/root",
      "--moved=data=1024@/dev/typevisor/data",
    ]);
  });

  it("goes to another node, unless the same is allowed", () => {
    expect(terms(target())).toEqual([{ matchFields: [otherNode] }]);
    expect(target({}, { target: { allowSourceNode: true } }).spec?.affinity).toBeUndefined();
  });

  it("goes where the migration says, within what the machine's template allows by now", () => {
    const affinity = {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: [zone] }] },
      },
    };
    const changes = { template: { spec: { affinity } } } as Partial<VirtualMachineSpec>;
    const spec = { target: { nodeName: "node-7", nodeSelector: { disk: "fast" }, allowSourceNode: false } };
    expect(terms(target(changes, spec))).toEqual([
      {
        matchExpressions: [zone, { key: "disk", operator: "In", values: ["fast"] }],
        matchFields: [otherNode, { key: "metadata.name", operator: "In", values: ["node-7"] }],
      },
    ]);
  });

  it("does not carry an earlier migration's place along", () => {
    const first = target({}, { target: { nodeName: "node-7", allowSourceNode: false } });
    const moved = {
      ...first,
      metadata: { ...first.metadata, uid: "moved" },
      spec: { ...first.spec, containers: first.spec?.containers ?? [], nodeName: "node-7" },
    };
    const again = target({}, {}, moved);
    expect(terms(again)).toEqual([{ matchFields: [{ ...otherNode, values: ["node-7"] }] }]);
    expect(again.spec?.containers[0]?.args?.filter((arg) => arg === "--receive")).toHaveLength(1);
  });
});
