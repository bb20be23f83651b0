import { describe, expect, it } from "@jest/globals";
import type { Disk } from "../../../../crds/src/disk.ts";
import { parseMachineConfig } from "../../../../launcher/src/config/machine-config.ts";
import type { Claims } from "./claims.ts";
import { allDiskParts } from "./disk-parts.ts";
import { machineConfig } from "./machine-config.ts";
import { generatedNetworkData } from "./network-data.ts";
import { launcherPod } from "./pod.ts";
import { at, claim, machine, settings, TRUST, VM_UID } from "./testing/fixtures.ts";

type Source = Omit<Disk, "name" | "readOnly">;
const disk = (name: string, source: Source, readOnly = false): Disk => ({ name, readOnly, ...source });
const onClaim = (name: string, claimName: string, readOnly = false) =>
  disk(name, { persistentVolumeClaim: { claimName } }, readOnly);

/** What the launcher is told of the disks, after its own reading; and the pod. */
function made(disks: Disk[], claims: Claims = {}, template: object = {}) {
  const vm = machine({ disks, template: { spec: template } });
  const inputs = { settings, restarts: 0, certificateRenewAt: at(0), trustId: TRUST, claims };
  const { volumes = [], containers = [] } = launcherPod(vm, inputs).spec ?? {};
  const config = parseMachineConfig(JSON.stringify(machineConfig(vm, settings, claims)));
  return {
    vm,
    disks: config.disks,
    volumes: volumes.filter(({ name }) => !["machine", "run", "boot-image"].includes(name)),
    mounts: containers[0]?.volumeMounts?.filter(({ name }) => !["machine", "run", "boot-image"].includes(name)),
    devices: containers[0]?.volumeDevices,
  };
}

describe("a disk on a claim", () => {
  it("of mode Filesystem is a file in its mount, as large as the volume", () => {
    const { disks, volumes, mounts, devices } = made([onClaim("data", "web-data")], {
      "web-data": claim("web-data", { requestBytes: 2 ** 30, capacityBytes: 2 ** 31 + 100 }),
    });
    expect(disks[0]).toMatchObject({
      readOnly: false,
      source: { kind: "directory", path: "/disks/data", sizeBytes: 2 ** 31 },
    });
    expect(volumes).toEqual([{ name: "disk-data", persistentVolumeClaim: { claimName: "web-data" } }]);
    expect(mounts).toEqual([{ name: "disk-data", mountPath: "/disks/data" }]);
    expect(devices).toBeUndefined();
  });

  it("that waits for its first consumer begins with what was asked for", () => {
    const claims = { c: claim("c", { phase: "Pending", capacityBytes: undefined, requestBytes: 2 ** 30 }) };
    expect(made([onClaim("data", "c")], claims).disks[0]?.source).toMatchObject({ sizeBytes: 2 ** 30 });
  });

  it("of mode Block is a device that the agent opens", () => {
    const { disks, volumes, mounts, devices } = made([onClaim("data", "c")], { c: claim("c", { mode: "Block" }) });
    expect(disks[0]?.source).toEqual({ kind: "raw", path: "/dev/typevisor/data" });
    expect(volumes).toEqual([{ name: "disk-data", persistentVolumeClaim: { claimName: "c" } }]);
    expect(devices).toEqual([{ name: "disk-data", devicePath: "/dev/typevisor/data" }]);
    expect(mounts).toEqual([]);
  });

  it("is read-only for pod, mount and guest where the disk is", () => {
    const { disks, volumes, mounts } = made([onClaim("data", "c", true)], { c: claim("c") });
    expect(disks[0]?.readOnly).toBe(true);
    expect(volumes[0]?.persistentVolumeClaim?.readOnly).toBe(true);
    expect(mounts?.[0]?.readOnly).toBe(true);
  });
});

describe("an empty disk", () => {
  it("is a file in a directory that has room for all of them, and not much more", () => {
    const empty = (name: string, size: string) => disk(name, { emptyDisk: { size } });
    const { disks, volumes, mounts } = made([empty("a", "1Gi"), empty("b", "64Mi")]);
    expect(disks.map(({ source }) => source)).toEqual([
      { kind: "empty", path: "/var/lib/typevisor/empty/a.img", sizeBytes: 2 ** 30 },
      { kind: "empty", path: "/var/lib/typevisor/empty/b.img", sizeBytes: 2 ** 26 },
    ]);
    expect(volumes).toEqual([{ name: "empty-disks", emptyDir: { sizeLimit: "1105Mi" } }]);
    expect(mounts).toEqual([{ name: "empty-disks", mountPath: "/var/lib/typevisor/empty" }]);
  });
});

describe("a disk with limits", () => {
  it("tells the launcher what is limited, and nothing of what is not", () => {
    const limited = (name: string, limits: NonNullable<Disk["limits"]>): Disk => ({
      ...disk(name, { emptyDisk: { size: "1Gi" } }),
      limits,
    });
    const { disks } = made([limited("a", { requestsPerSecond: 500 }), limited("b", { bytesPerSecond: "50Mi" })]);
    expect(disks.map(({ limits }) => limits)).toEqual([{ requestsPerSecond: 500 }, { bytesPerSecond: 50 * 2 ** 20 }]);
  });
});

describe("a disk of files", () => {
  it.each<[string, Source, object]>([
    ["a ConfigMap", { configMap: { name: "web-conf" } }, { configMap: { name: "web-conf" } }],
    ["a Secret", { secret: { secretName: "web-key" } }, { secret: { secretName: "web-key", defaultMode: 0o440 } }],
  ])("holds what %s holds, read-only, under the disk's name as label", (_what, source, volume) => {
    const { disks, volumes, mounts } = made([disk("conf", source)]);
    expect(disks[0]).toMatchObject({
      readOnly: true,
      source: { kind: "files", directory: "/disks/conf", volumeLabel: "conf" },
    });
    expect(volumes).toEqual([{ name: "disk-conf", ...volume }]);
    expect(mounts).toEqual([{ name: "disk-conf", mountPath: "/disks/conf", readOnly: true }]);
  });
});

describe("a cloud-init disk", () => {
  const seed = (cloudInit: NonNullable<Disk["cloudInit"]>) => [disk("seed", { cloudInit })];

  it("has inline data in the machine's Secret and nowhere else", () => {
    const userData = "#cloud-config\npassword: hunter2\n";
    const found = made(seed({ userData, networkData: "version: 2" }));
    expect(found.disks[0]).toMatchObject({
      readOnly: true,
      source: {
        kind: "cloudInit",
        userDataPath: "/etc/typevisor/machine/seed-seed-user-data",
        networkDataPath: "/etc/typevisor/machine/seed-seed-network-data",
        instanceId: VM_UID,
        localHostname: "web",
      },
    });
    expect(allDiskParts(found.vm, {})[0]?.secretData).toEqual({
      "seed-seed-user-data": userData,
      "seed-seed-network-data": "version: 2",
    });
    expect(JSON.stringify([found.disks, found.volumes, found.mounts])).not.toContain("hunter2");
    expect(found.volumes).toEqual([]);
  });

  it("has the keys of Secrets in one directory, of two Secrets too", () => {
    const found = made(seed({ userDataSecretRef: { name: "user" }, networkDataSecretRef: { name: "net" } }));
    expect(found.disks[0]?.source).toMatchObject({
      userDataPath: "/disks/seed/user-data",
      networkDataPath: "/disks/seed/network-data",
    });
    expect(found.volumes[0]?.projected?.sources).toEqual([
      { secret: { name: "user", items: [{ key: "userdata", path: "user-data" }] } },
      { secret: { name: "net", items: [{ key: "networkdata", path: "network-data" }] } },
    ]);
    expect(found.mounts).toEqual([{ name: "disk-seed", mountPath: "/disks/seed", readOnly: true }]);
  });

  it("names the guest as its pod is named", () => {
    expect(made(seed({}), {}, { hostname: "db" }).disks[0]?.source).toMatchObject({
      kind: "cloudInit",
      instanceId: VM_UID,
      localHostname: "db",
    });
  });

  it("has network data made where none is given, in the machine's Secret too", () => {
    const found = made(seed({}));
    expect(found.disks[0]?.source).toMatchObject({ networkDataPath: "/etc/typevisor/machine/seed-seed-network-data" });
    const data = allDiskParts(found.vm, {})[0]?.secretData["seed-seed-network-data"];
    expect(data).toBe(generatedNetworkData(found.vm));
  });

  it("takes no more inline data than a Secret can hold", () => {
    const userData = "x".repeat(64 * 1024);
    const disks = Array.from({ length: 13 }, (_, index) => disk(`seed-${index}`, { cloudInit: { userData } }));
    expect(() => made(disks)).toThrow(/835 KiB of inline cloudInit data.*userDataSecretRef/);
  });
});
