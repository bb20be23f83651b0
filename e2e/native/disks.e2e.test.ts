import { execFileSync } from "node:child_process";
import { statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { VirtualMachineManifest } from "../../crds/src/virtualmachine.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { GuestSession, SECTOR_BYTES } from "../support/guest-session.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { StaticVolumes } from "../support/static-volumes.ts";
import { storageClass } from "../support/storage-class.ts";
import { CONTAINER_DISK_IMAGE, podOf, testGuest } from "../support/vm.ts";

const MIB = 2 ** 20;
const NAMESPACE = "disks";
/** Static volumes of this test, which are bound once a pod wants them. */
const STORAGE_CLASS = "typevisor-e2e-static";
const START_TIMEOUT_MS = 120_000;
type Disks = NonNullable<VirtualMachineManifest["spec"]["disks"]>;

describe("disks", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let volumes: StaticVolumes;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    volumes = new StaticVolumes(kubectl, STORAGE_CLASS);
    await kubectl.apply(storageClass(STORAGE_CLASS));
  });

  afterAll(async () => {
    await cluster.dropNamespace(NAMESPACE);
    await kubectl.run(["delete", "storageclass", STORAGE_CLASS, "--ignore-not-found"]);
    await volumes[Symbol.asyncDispose]();
  });

  const onClaim = (name: string, claimName: string, readOnly = false) => ({
    name,
    readOnly,
    persistentVolumeClaim: { claimName },
  });
  const start = async (name: string, disks: Disks) => {
    await kubectl.apply(testGuest(name, { disks }));
    return await kubectl.waitFor("vm", name, "condition=Ready", START_TIMEOUT_MS);
  };
  /** Waits for a run of the machine in another pod than `before`'s. */
  const nextRun = (name: string, before: KubeObject) =>
    eventually(`another run of ${name}`, START_TIMEOUT_MS, async () => {
      const vm = await kubectl.get("vm", name);
      return vm?.status.podUID !== before.status.podUID && vm?.status.phase === "Running" ? vm : null;
    });
  const restart = async (name: string) => {
    const before = (await kubectl.get("vm", name)) as KubeObject;
    await kubectl.run(["delete", "pod", podOf(name)], { timeoutMs: 60_000 });
    return await nextRun(name, before);
  };
  const filesystemClaim = async (name: string) => {
    const path = volumes.newDirectory();
    await volumes.claim(name, { path, volumeMode: "Filesystem", storage: "64Mi" });
    return path;
  };
  const blockClaim = (name: string) => volumes.deviceClaim(name, 64);
  /** What the driver of a volume does at the end of an expansion. */
  const setCapacity = (name: string, storage: string) =>
    kubectl.run([
      "patch",
      "pvc",
      name,
      "--subresource=status",
      "--type=merge",
      "-p",
      JSON.stringify({ status: { capacity: { storage } } }),
    ]);
  const killLauncher = async (name: string) => {
    const uid = (await kubectl.get("pod", podOf(name)))?.metadata.uid ?? "none";
    const launchers = cluster.processesOf(uid).filter(({ command }) => /launcher/.test(command));
    for (const { pid } of launchers) process.kill(pid, "SIGKILL");
    expect(launchers.length).toBe(1);
  };

  describe.each(["Filesystem", "Block"] as const)("on a claim of mode %s", (mode) => {
    const name = mode.toLowerCase();
    let file: string;
    let device: string | undefined;

    it("starts with the claim that waits for it, and sees its size", async () => {
      if (mode === "Filesystem") file = join(await filesystemClaim(name), "disk.img");
      else ({ file, device } = await blockClaim(name));
      const vm = await start(name, [onClaim("data", name)]);
      expect(vm.status.volumes).toMatchObject([
        { name: "data", source: "persistentVolumeClaim", claimName: name, phase: "Bound", volumeMode: mode },
      ]);
      await using guest = await GuestSession.open(kubectl, name);
      expect(await guest.diskInfo(0)).toEqual({ name: "data", sizeBytes: 64 * MIB });
      if (mode === "Filesystem") expect(statSync(file)).toMatchObject({ size: 64 * MIB, uid: 10001, blocks: 0 });
    });

    it("keeps what was written when its pod is deleted, and when its launcher is killed", async () => {
      await using first = await GuestSession.open(kubectl, name);
      await first.writeSector(0, 7, 4711);
      await first.writeSector(0, 64 * 2048 - 1, 4712);
      const second = await restart(name);
      await using afterRestart = await GuestSession.open(kubectl, name);
      expect(await afterRestart.readSector(0, 7)).toBe(4711n);
      expect(await afterRestart.readSector(0, 64 * 2048 - 1)).toBe(4712n);
      await afterRestart.writeSector(0, 7, 4713);
      await killLauncher(name);
      await nextRun(name, second);
      await using afterKill = await GuestSession.open(kubectl, name);
      expect(await afterKill.readSector(0, 7)).toBe(4713n);
    });

    it("is refused to a second machine, which has it as soon as the first is off", async () => {
      const second = `${name}-second`;
      await kubectl.apply(testGuest(second, { disks: [onClaim("data", name)] }));
      const ready = await kubectl.vmCondition(second, "Ready", "False", "ClaimInUse");
      expect(ready.message).toContain(`PersistentVolumeClaim ${name} of disk data is in use by VirtualMachine ${name}`);
      expect(await kubectl.get("pod", podOf(second))).toBeNull();
      await kubectl.run(["delete", "vm", name, "--timeout=60s"], { timeoutMs: 70_000 });
      await kubectl.waitFor("vm", second, "condition=Ready", START_TIMEOUT_MS);
      await using guest = await GuestSession.open(kubectl, second);
      expect(await guest.readSector(0, 7)).toBe(4713n);
    });

    it("grows in the running guest when its claim has grown", async () => {
      const second = `${name}-second`;
      const before = await kubectl.get("vm", second);
      if (device !== undefined) {
        truncateSync(file, 96 * MIB);
        execFileSync("losetup", ["--set-capacity", device]);
      }
      await setCapacity(name, "96Mi");
      const vm = await eventually("the guest's disk to grow", 60_000, async () => {
        const seen = await kubectl.get("vm", second);
        return seen?.status.volumes?.[0]?.size === "96Mi" ? seen : null;
      });
      expect(vm.status.podUID).toBe(before?.status.podUID);
      await using guest = await GuestSession.open(kubectl, second);
      expect(await guest.diskInfo(0)).toEqual({ name: "data", sizeBytes: 96 * MIB });
      await guest.writeSector(0, 96 * 2048 - 1, 4714);
      expect(await guest.readSector(0, 96 * 2048 - 1)).toBe(4714n);
    });

    it("is read by two machines at once that only read it, and by none that writes", async () => {
      await kubectl.run(["delete", "vm", `${name}-second`, "--timeout=60s"], { timeoutMs: 70_000 });
      const readers = [`${name}-reads`, `${name}-reads-too`];
      for (const reader of readers) await kubectl.apply(testGuest(reader, { disks: [onClaim("data", name, true)] }));
      await kubectl.apply(testGuest(`${name}-writes`, { disks: [onClaim("data", name)] }));
      for (const reader of readers) {
        await kubectl.waitFor("vm", reader, "condition=Ready", START_TIMEOUT_MS);
        await using guest = await GuestSession.open(kubectl, reader);
        expect(await guest.readSector(0, 7)).toBe(4713n);
        expect(await guest.ask("blkwrite 0 7 1")).toMatch(/blkwrite status [^0]/);
        expect(await guest.readSector(0, 7)).toBe(4713n);
        expect(await guest.readSector(0, 96 * 2048 - 1)).toBe(4714n);
      }
      await kubectl.vmCondition(`${name}-writes`, "Ready", "False", "ClaimInUse");
      for (const machine of [`${name}-writes`, ...readers])
        await kubectl.run(["delete", "vm", machine, "--timeout=60s"], { timeoutMs: 70_000 });
    });
  });

  it("a disk of an image that was made for KubeVirt is used as it is", async () => {
    await start("kubevirt", [{ name: "root", image: { reference: CONTAINER_DISK_IMAGE } }]);
    await using guest = await GuestSession.open(kubectl, "kubevirt");
    expect(await guest.diskInfo(0)).toEqual({ name: "root", sizeBytes: 8 * MIB });
    expect(await guest.readSector(0, 100)).toBe(BigInt(100 * SECTOR_BYTES));
    await guest.writeSector(0, 100, 4711);
    expect(await guest.readSector(0, 100)).toBe(4711n);
    expect(await guest.readSector(0, 101)).toBe(BigInt(101 * SECTOR_BYTES));
  });

  describe("a claim that is not ready", () => {
    it("is named where it does not exist, and the machine starts once it does", async () => {
      await kubectl.apply(testGuest("early", { disks: [onClaim("data", "late")] }));
      const ready = await kubectl.vmCondition("early", "Ready", "False", "ClaimNotFound");
      expect(ready.message).toContain("PersistentVolumeClaim late of disk data does not exist");
      await filesystemClaim("late");
      await kubectl.waitFor("vm", "early", "condition=Ready", START_TIMEOUT_MS);
    });

    it("is named where no volume fits it", async () => {
      await kubectl.apply({
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: { name: "unbound" },
        spec: {
          accessModes: ["ReadWriteOnce"],
          storageClassName: STORAGE_CLASS,
          resources: { requests: { storage: "1Ti" } },
        },
      });
      await kubectl.apply(testGuest("unbound", { disks: [onClaim("data", "unbound")] }));
      const ready = await eventually("the scheduler's word", 60_000, async () => {
        const condition = await kubectl.vmCondition("unbound", "Ready", "False", "ClaimNotBound");
        return condition.message.includes("the scheduler says") ? condition : null;
      });
      expect(ready.message).toContain("PersistentVolumeClaim unbound of disk data");
    });
  });

  it("a claim from a template is made for its machine, kept as the template says where it can be, and goes with it", async () => {
    const path = volumes.newDirectory();
    await volumes.volume({ claimName: "data-templated", path, volumeMode: "Filesystem", storage: "64Mi" });
    const disks: Disks = [{ name: "root", volumeClaimTemplate: { name: "data" } }];
    const spec = (storage: string, whenDeleted: "Retain" | "Delete") => ({
      disks,
      volumeClaimTemplates: [
        { metadata: { name: "data" }, spec: { storageClassName: STORAGE_CLASS, resources: { requests: { storage } } } },
      ],
      persistentVolumeClaimRetentionPolicy: { whenDeleted },
    });
    await kubectl.apply(testGuest("templated", spec("64Mi", "Retain")));
    const vm = await kubectl.waitFor("vm", "templated", "condition=Ready", START_TIMEOUT_MS);
    expect(vm.status.volumes).toMatchObject([{ name: "root", claimName: "data-templated", phase: "Bound" }]);
    expect((await kubectl.get("pvc", "data-templated"))?.metadata.labels).toMatchObject({
      "typevisor.io/vm": "templated",
    });
    await kubectl.apply(testGuest("templated", spec("96Mi", "Retain")));
    const refused = await eventually("the refusal of a larger claim", 60_000, async () => {
      const message: unknown = (await kubectl.get("vm", "templated"))?.status.volumes?.[0]?.message;
      return typeof message === "string" ? message : null;
    });
    expect(refused).toMatch(/resize/);
    await kubectl.apply(testGuest("templated", spec("96Mi", "Delete")));
    await kubectl.run(["patch", "storageclass", STORAGE_CLASS, "--type=merge", "-p", '{"allowVolumeExpansion":true}']);
    await kubectl.apply(testGuest("templated", spec("128Mi", "Delete")));
    await eventually("the claim to be asked to grow", 60_000, async () => {
      const claimed = (await kubectl.get("pvc", "data-templated"))?.spec as {
        resources: { requests: { storage: string } };
      };
      return claimed.resources.requests.storage === "128Mi";
    });
    expect((await kubectl.get("vm", "templated"))?.status.podUID).toBe(vm.status.podUID);
    await kubectl.run(["delete", "vm", "templated", "--timeout=60s"], { timeoutMs: 70_000 });
    await eventually("the claim to go", 60_000, async () => (await kubectl.get("pvc", "data-templated")) === null);
  });

  it("a claim of the default StorageClass gets its volume on the machine's node, and both go with the machine", async () => {
    const volumeClaimTemplates = [
      { metadata: { name: "data" }, spec: { resources: { requests: { storage: "64Mi" } } } },
    ];
    await kubectl.apply(
      testGuest("dynamic", {
        disks: [{ name: "root", volumeClaimTemplate: { name: "data" } }],
        volumeClaimTemplates,
        persistentVolumeClaimRetentionPolicy: { whenDeleted: "Delete" },
      }),
    );
    await kubectl.waitFor("vm", "dynamic", "condition=Ready", START_TIMEOUT_MS);
    const made = (await kubectl.get("pvc", "data-dynamic"))?.spec as { storageClassName: string; volumeName: string };
    expect(made.storageClassName).toBe("local-path");
    {
      await using guest = await GuestSession.open(kubectl, "dynamic");
      expect(await guest.diskInfo(0)).toEqual({ name: "root", sizeBytes: 64 * MIB });
      await guest.writeSector(0, 5, 4711);
    }
    await restart("dynamic");
    {
      await using guest = await GuestSession.open(kubectl, "dynamic");
      expect(await guest.readSector(0, 5)).toBe(4711n);
    }
    await kubectl.run(["delete", "vm", "dynamic", "--timeout=60s"], { timeoutMs: 70_000 });
    await eventually("the volume to go", 60_000, async () => (await kubectl.get("pv", made.volumeName)) === null);
  });

  it("an empty disk is empty at each start", async () => {
    await start("empty", [{ name: "scratch", emptyDisk: { size: "8Mi" } }]);
    {
      await using guest = await GuestSession.open(kubectl, "empty");
      expect(await guest.diskInfo(0)).toEqual({ name: "scratch", sizeBytes: 8 * MIB });
      await guest.writeSector(0, 3, 4711);
      expect(await guest.readSector(0, 3)).toBe(4711n);
    }
    await restart("empty");
    await using guest = await GuestSession.open(kubectl, "empty");
    expect(await guest.readSector(0, 3)).toBe(0n);
  });

  it("a guest that has written as much beside its image as it may is paused, and goes on when it may write more", async () => {
    // Any file of an image is a disk; this one has 4 MiB.
    const image = (overlaySizeLimit: string) => ({
      reference: "docker.io/typevisor/launcher:dev",
      path: "/usr/share/typevisor/CLOUDHV_EFI.fd",
      overlaySizeLimit,
    });
    const { status } = await start("limited", [{ name: "root", image: image("1Mi") }]);
    await using guest = await GuestSession.open(kubectl, "limited");
    const clusters = MIB / 4096;
    expect(await guest.ask(`blkbench 0 1 ${clusters} 4096 0 1`)).toContain(`blkbench done ${clusters} failed 0`);
    await guest.writeSector(0, 3, 4711);
    const beyond = clusters * 8 + 3;
    const written = guest.writeSector(0, beyond, 4712);
    const ready = await kubectl.vmCondition("limited", "Ready", "False", "StorageFull");
    expect(ready.message).toMatch(
      /written 1Mi beside .* disk root, and may write 1Mi: raise .*overlaySizeLimit, up to 2Mi/,
    );
    await kubectl.apply(testGuest("limited", { disks: [{ name: "root", image: image("2Mi") }] }));
    await written;
    expect(await guest.readSector(0, 3)).toBe(4711n);
    expect(await guest.readSector(0, beyond)).toBe(4712n);
    const vm = await kubectl.waitFor("vm", "limited", "condition=Ready", START_TIMEOUT_MS);
    expect(vm.status.podUID).toBe(status.podUID);
    const restart = vm.status.conditions?.find(({ type }: { type: string }) => type === "RestartRequired");
    expect(restart?.status).toBe("False");
  });

  describe("disks of files", () => {
    const secretText = "cucumber-sandwich";
    const firstBytes = (text: string) => Buffer.from(text.slice(0, 8)).readBigUInt64LE();
    const isIso9660 = Buffer.from("\x01CD001\x01\0", "latin1").readBigUInt64LE();
    const ISO_BLOCK_SECTORS = 2048 / SECTOR_BYTES;

    /** Whether a file of an ISO disk begins with `text`: files begin on blocks of 2 KiB. */
    const holds = async (guest: GuestSession, disk: number, text: string) => {
      const { sizeBytes } = await guest.diskInfo(disk);
      for (let sector = 16 * ISO_BLOCK_SECTORS; sector < sizeBytes / SECTOR_BYTES; sector += ISO_BLOCK_SECTORS) {
        if ((await guest.readSector(disk, sector)) === firstBytes(text)) return true;
      }
      return false;
    };

    it("hold what their ConfigMap, Secret and cloud-init data hold", async () => {
      await kubectl.apply({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "conf" }, data: { a: "config-a" } });
      await kubectl.apply({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "keys" },
        stringData: { key: secretText, userdata: `#cloud-config from a Secret: ${secretText}` },
      });
      await start("files", [
        { name: "conf", configMap: { name: "conf" } },
        { name: "keys", secret: { secretName: "keys" } },
        { name: "seed", cloudInit: { userData: `#!inline ${secretText}`, networkData: "version: 2" } },
        { name: "seed2", cloudInit: { userDataSecretRef: { name: "keys" } } },
      ]);
      await using guest = await GuestSession.open(kubectl, "files");
      for (const disk of [0, 1, 2, 3]) expect(await guest.readSector(disk, 64)).toBe(isIso9660);
      expect(await holds(guest, 0, "config-a")).toBe(true);
      expect(await holds(guest, 0, "config-b")).toBe(false);
      expect(await holds(guest, 1, secretText)).toBe(true);
      expect(await holds(guest, 2, "#!inline")).toBe(true);
      expect(await holds(guest, 2, "version: 2")).toBe(true);
      expect(await holds(guest, 3, "#cloud-config")).toBe(true);
    });

    it("show their secrets nowhere else", async () => {
      const pod = await kubectl.get("pod", podOf("files"));
      const vm = await kubectl.get("vm", "files");
      const logs = await kubectl.run(["logs", podOf("files")]);
      const operator = await cluster.system.run(["logs", "deployment/typevisor-operator", "--tail=-1"]);
      const processes = cluster.processesOf(pod?.metadata.uid ?? "none").map(({ command }) => command);
      expect(processes.length).toBeGreaterThan(0);
      for (const shown of [pod, vm?.status, logs, operator, processes])
        expect(JSON.stringify(shown)).not.toContain(secretText);
    });

    it("are made anew at each start", async () => {
      await kubectl.apply({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "conf" }, data: { a: "config-b" } });
      await restart("files");
      await using guest = await GuestSession.open(kubectl, "files");
      expect(await holds(guest, 0, "config-b")).toBe(true);
    });
  });
});
