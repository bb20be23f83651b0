import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { VirtualMachineImageManifest, VirtualMachineImageStatus } from "../../crds/src/virtualmachineimage.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { SLOW_BYTES, startDiskServer } from "../support/disk-server.ts";
import { eventually } from "../support/eventually.ts";
import { GuestSession, SECTOR_BYTES } from "../support/guest-session.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { StaticVolumes } from "../support/static-volumes.ts";
import { storageClass } from "../support/storage-class.ts";
import { CONTAINER_DISK_IMAGE, testGuest } from "../support/vm.ts";

const MIB = 2 ** 20;
const NAMESPACE = "imports";
/** Volumes of local-path-provisioner, which ignores dataSourceRef; and static ones. */
const DYNAMIC = "typevisor-e2e-import";
const STATIC = "typevisor-e2e-import-static";
const VOLUMES = "typevisor-e2e-import-volumes";
const TIMEOUT_MS = 120_000;
type Source = VirtualMachineImageManifest["spec"]["source"];

describe("imports", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let server: string;
  let volumes: StaticVolumes;
  const directory = mkdtempSync(join(tmpdir(), "typevisor-imports-"));
  const disk = Buffer.alloc(32 * MIB);
  disk.writeBigUInt64LE(4711n, 7 * SECTOR_BYTES);
  disk.writeBigUInt64LE(4712n, disk.length - SECTOR_BYTES);
  let qcow2: Buffer;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    volumes = new StaticVolumes(kubectl, VOLUMES);
    const raw = join(directory, "disk.raw");
    writeFileSync(raw, disk);
    const file = join(directory, "disk.qcow2");
    execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-c", raw, file]);
    qcow2 = readFileSync(file);
    server = await startDiskServer(kubectl, { "disk.qcow2": qcow2 });
    const importing = (name: string, storageClassName: string, more: object = {}) =>
      kubectl.apply(storageClass(name, "typevisor.io/import", { parameters: { storageClassName }, ...more }));
    await importing(DYNAMIC, "local-path");
    await importing(STATIC, VOLUMES, { volumeBindingMode: "Immediate" });
    await kubectl.apply(storageClass(VOLUMES));
  });

  afterAll(async () => {
    await cluster.dropNamespace(NAMESPACE);
    await kubectl.run(["delete", "storageclass", DYNAMIC, STATIC, VOLUMES, "--ignore-not-found"]);
    await volumes[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  const image = (name: string, source: Source) =>
    kubectl.apply({
      apiVersion: "typevisor.io/v1alpha1",
      kind: "VirtualMachineImage",
      metadata: { name },
      spec: { source },
    });
  const sha256 = (file: Buffer) => createHash("sha256").update(file).digest("hex");
  const dataSourceRef = (name: string) => ({ apiGroup: "typevisor.io", kind: "VirtualMachineImage", name });
  const claim = (name: string, imageName: string, spec: object = {}) =>
    kubectl.apply({
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name },
      spec: {
        accessModes: ["ReadWriteOnce"],
        storageClassName: DYNAMIC,
        resources: { requests: { storage: "64Mi" } },
        dataSourceRef: dataSourceRef(imageName),
        ...spec,
      },
    });
  const machine = (name: string, claimName: string) =>
    kubectl.apply(testGuest(name, { disks: [{ name: "root", persistentVolumeClaim: { claimName } }] }));
  const statusOf = async (name: string) =>
    (await kubectl.get("vmimage", name))?.status as VirtualMachineImageStatus | undefined;
  /** Waits for the import into a claim to be in a phase. */
  const imported = (name: string, claimName: string, phase: string) =>
    eventually(`import of ${name} into ${claimName} to be ${phase}`, TIMEOUT_MS, async () => {
      const entry = (await statusOf(name))?.imports?.find((candidate) => candidate.claimName === claimName);
      if (entry?.phase === phase) return entry;
      throw new Error(JSON.stringify(entry));
    });
  const ready = async (name: string) =>
    (await statusOf(name))?.conditions?.find((condition) => condition.type === "Ready");
  const nothingLeft = () =>
    eventually("nothing to be left of imports", TIMEOUT_MS, async () => {
      const left = await kubectl.run(["get", "pods,pvc", "-l", "typevisor.io/import", "-o", "name"]);
      if (left.trim() !== "") throw new Error(left);
      return true;
    });

  it("a machine starts on a claim of its templates, filled from a qcow2 file of a server", async () => {
    await image("qcow2", { http: { url: `${server}/disk.qcow2`, checksum: { sha256: sha256(qcow2) } } });
    const spec = {
      storageClassName: DYNAMIC,
      resources: { requests: { storage: "64Mi" } },
      dataSourceRef: dataSourceRef("qcow2"),
    };
    await kubectl.apply(
      testGuest("templated", {
        disks: [{ name: "root", volumeClaimTemplate: { name: "root" } }],
        volumeClaimTemplates: [{ metadata: { name: "root" }, spec }],
      }),
    );
    await kubectl.waitFor("vm", "templated", "condition=Ready", TIMEOUT_MS);
    await using guest = await GuestSession.open(kubectl, "templated");
    expect(await guest.diskInfo(0)).toEqual({ name: "root", sizeBytes: 64 * MIB });
    expect(await guest.readSector(0, 7)).toBe(4711n);
    expect(await guest.readSector(0, disk.length / SECTOR_BYTES - 1)).toBe(4712n);
    expect(await guest.readSector(0, 8)).toBe(0n);
    await imported("qcow2", "root-templated", "Completed");
    expect(await statusOf("qcow2")).toMatchObject({ format: "qcow2", virtualSize: "32Mi" });
    const reasons = (await kubectl.events("root-templated")).map(({ reason }) => reason);
    expect(reasons).toEqual(expect.arrayContaining(["Importing", "ImportCompleted"]));
    await nothingLeft();
  });

  it("a machine starts on a device, filled from the same file", async () => {
    // What an older disk left there must not show through.
    const { device } = volumes.loopDevice(64, 0xff);
    await volumes.volume({ path: device, volumeMode: "Block", storage: "64Mi" });
    await claim("device", "qcow2", { storageClassName: STATIC, volumeMode: "Block" });
    await imported("qcow2", "device", "Completed");
    await machine("on-device", "device");
    await kubectl.waitFor("vm", "on-device", "condition=Ready", TIMEOUT_MS);
    await using guest = await GuestSession.open(kubectl, "on-device");
    expect(await guest.readSector(0, 7)).toBe(4711n);
    expect(await guest.readSector(0, 8)).toBe(0n);
    expect(await guest.readSector(0, disk.length / SECTOR_BYTES)).toBe(0n);
    await nothingLeft();
  });

  it("a machine starts on the disk of an OCI image, in KubeVirt's layout", async () => {
    await image("oci", { image: { reference: CONTAINER_DISK_IMAGE } });
    await claim("of-image", "oci");
    await machine("on-image", "of-image");
    await kubectl.waitFor("vm", "on-image", "condition=Ready", TIMEOUT_MS);
    await using guest = await GuestSession.open(kubectl, "on-image");
    expect(await guest.diskInfo(0)).toEqual({ name: "root", sizeBytes: 64 * MIB });
    const last = (8 * MIB) / SECTOR_BYTES - 1;
    for (const sector of [1, last]) expect(await guest.readSector(0, sector)).toBe(BigInt(sector * SECTOR_BYTES));
    expect(await guest.readSector(0, last + 1)).toBe(0n);
    expect(await statusOf("oci")).toMatchObject({ format: "qcow2", virtualSize: "8Mi" });
    await nothingLeft();
  });

  it("a machine starts on a copy of another one's disk, which is taken once that one is off", async () => {
    {
      await using guest = await GuestSession.open(kubectl, "templated");
      await guest.writeSector(0, 9, 4713);
    }
    await image("copy", { persistentVolumeClaim: { name: "root-templated" } });
    await claim("copied", "copy");
    await machine("on-copy", "copied");
    await eventually("the import to wait for the machine", TIMEOUT_MS, async () => {
      const [entry] = (await statusOf("copy"))?.imports ?? [];
      if (entry?.reason === "SourceInUse") return entry.message?.includes("VirtualMachine templated writes to");
      throw new Error(JSON.stringify(entry));
    });
    await kubectl.run(["patch", "vm", "templated", "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}']);
    await kubectl.waitFor("vm", "on-copy", "condition=Ready", TIMEOUT_MS);
    await using guest = await GuestSession.open(kubectl, "on-copy");
    expect(await guest.readSector(0, 7)).toBe(4711n);
    expect(await guest.readSector(0, 9)).toBe(4713n);
    expect(await statusOf("copy")).toMatchObject({ format: "raw", virtualSize: "64Mi" });
    await nothingLeft();
  });

  it("a wrong checksum, a claim that is too small and an absent file end in conditions with the figures", async () => {
    const wrong = "0".repeat(64);
    await image("wrong", { http: { url: `${server}/disk.qcow2`, checksum: { sha256: wrong } } });
    await image("small", { http: { url: `${server}/disk.qcow2` } });
    await image("absent", { http: { url: `${server}/absent` } });
    await claim("wrong", "wrong");
    await claim("small", "small", { resources: { requests: { storage: "16Mi" } } });
    await claim("absent", "absent");
    for (const name of ["wrong", "small", "absent"]) await machine(`on-${name}`, name);
    await imported("wrong", "wrong", "Failed");
    expect(await ready("wrong")).toMatchObject({ status: "False", reason: "ChecksumMismatch" });
    expect((await ready("wrong"))?.message).toContain(`${sha256(qcow2)}, and ${wrong} was expected`);
    await imported("small", "small", "Failed");
    expect(await ready("small")).toMatchObject({ status: "False", reason: "TargetTooSmall" });
    expect((await ready("small"))?.message).toMatch(/disk has 33554432 bytes \(32Mi\), and the volume 16777216/);
    const entry = await imported("absent", "absent", "Retrying");
    expect(entry).toMatchObject({ reason: "SourceRefused", message: expect.stringContaining("404 Not Found") });
    const waits = await kubectl.vmCondition("on-wrong", "Ready", "False", "ClaimImporting");
    expect(waits.message).toMatch(
      /Claim wrong of disk root is being filled .* Failed: the file has the sha256 checksum/,
    );
    expect((await kubectl.get("pvc", "wrong"))?.spec["volumeName"]).toBeUndefined();
    for (const name of ["wrong", "small", "absent"])
      await kubectl.run(["delete", "vm,pvc", `on-${name}`, name, "--ignore-not-found"]);
    await nothingLeft();
  });

  it("goes on when the operator is killed in the middle", async () => {
    await image("slow", { http: { url: `${server}/slow` } });
    await claim("killed", "slow");
    await machine("on-killed", "killed");
    await eventually("the import to be under way", TIMEOUT_MS, async () => {
      const [entry] = (await statusOf("slow"))?.imports ?? [];
      if (entry?.progress !== undefined && entry.rate !== undefined) return entry;
      throw new Error(JSON.stringify(entry));
    });
    const uid = (await kubectl.list("pods", "typevisor.io/import"))[0]?.metadata.uid;
    await cluster.system.run(["delete", "pods", "-l", "app.kubernetes.io/component=controllers", "--force"]);
    await imported("slow", "killed", "Completed");
    await kubectl.waitFor("vm", "on-killed", "condition=Ready", TIMEOUT_MS);
    await using guest = await GuestSession.open(kubectl, "on-killed");
    expect(await guest.readSector(0, 0)).toBe(4711n);
    expect(await guest.readSector(0, SLOW_BYTES / SECTOR_BYTES - 1)).toBe(0x0101010101010101n);
    expect(uid).toBeDefined();
  });

  it("leaves nothing behind when the claim is deleted in the middle", async () => {
    const volumes = () => kubectl.list("pv");
    const before = (await volumes()).length;
    await claim("deleted", "slow");
    await machine("on-deleted", "deleted");
    await imported("slow", "deleted", "Importing");
    expect((await volumes()).length).toBe(before + 1);
    await kubectl.run(["delete", "vm", "on-deleted", "--timeout=60s"], { timeoutMs: 70_000 });
    await kubectl.run(["delete", "pvc", "deleted", "--timeout=60s"], { timeoutMs: 70_000 });
    await nothingLeft();
    await eventually("the volume to go", TIMEOUT_MS, async () => (await volumes()).length === before);
  });

  it("is refused on storage that would give the claim an empty volume, and no machine starts on it", async () => {
    await claim("plain", "qcow2", { storageClassName: "local-path" });
    await machine("on-plain", "plain");
    const condition = await kubectl.vmCondition("on-plain", "Ready", "False", "ClaimNotPopulated");
    expect(condition.message).toContain("come without regard to dataSourceRef");
    expect(await kubectl.get("pod", "vm-on-plain")).toBeNull();
  });
});
