import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { VirtualMachineManifest } from "../../crds/src/virtualmachine.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { GuestSession } from "../support/guest-session.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { StaticVolumes } from "../support/static-volumes.ts";
import { podOf, testGuest } from "../support/vm.ts";

const MIB = 2 ** 20;
const NAMESPACE = "hotplug";
const NAME = "hot";
const TIMEOUT_MS = 120_000;
type Disks = NonNullable<VirtualMachineManifest["spec"]["disks"]>;

describe("disks of a running machine", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let podUID: string | undefined;
  let volumes: StaticVolumes;

  const files = { name: "files", persistentVolumeClaim: { claimName: "files" } };
  const device = { name: "device", persistentVolumeClaim: { claimName: "device" } };
  const scratch = { name: "scratch", emptyDisk: { size: "8Mi" } };

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    volumes = new StaticVolumes(kubectl, "typevisor-e2e-hotplug");
    await volumes.deviceClaim("device", 64);
    // Of the cluster's own StorageClass, which makes the volume once a pod with a node wants it.
    await claim("files", {});
    await kubectl.apply(testGuest(NAME, { disks: [scratch] }));
    podUID = (await kubectl.waitFor("vm", NAME, "condition=Ready", TIMEOUT_MS)).status.podUID;
  });

  afterAll(async () => {
    await cluster.dropNamespace(NAMESPACE);
    await volumes[Symbol.asyncDispose]();
  });

  const claim = (name: string, spec: object) =>
    kubectl.apply({
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name },
      spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "64Mi" } }, ...spec },
    });
  const setDisks = (...disks: Disks) => kubectl.apply(testGuest(NAME, { disks }));
  const attachmentPods = () => kubectl.list("pods", `typevisor.io/attachment-of=${NAME}`);
  /** Waits for the machine's status to tell that of its disks, by name. */
  const disksAre = (states: Readonly<Record<string, string>>) =>
    eventually(`disks ${JSON.stringify(states)}`, TIMEOUT_MS, async () => {
      const vm = await kubectl.get("vm", NAME);
      const found = Object.fromEntries((vm?.status.volumes ?? []).map(({ name, state }) => [name, state]));
      const current = vm?.status.observedGeneration === vm?.metadata.generation;
      if (current && JSON.stringify(found) === JSON.stringify(states)) return vm;
      throw new Error(JSON.stringify(vm?.status, null, 1));
    });

  it("come on claims of both modes while it runs, though the operator goes away meanwhile", async () => {
    await setDisks(scratch, files, device);
    await cluster.system.run(["rollout", "restart", "deployment/typevisor-operator"]);
    await disksAre({ scratch: "Attached", files: "Attaching", device: "Attaching" });
    await using guest = await GuestSession.open(kubectl, NAME);
    const found = [await guest.diskInfo(1), await guest.diskInfo(2)].sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(found).toEqual([
      { name: "device", sizeBytes: 64 * MIB },
      { name: "files", sizeBytes: 64 * MIB },
    ]);
    // The guest has a driver now, which it had not before it was asked.
    const vm = await disksAre({ scratch: "Attached", files: "Attached", device: "Attached" });
    expect(vm.status.podUID).toBe(podUID);
    expect(vm.status.conditions).toContainEqual(expect.objectContaining({ type: "RestartRequired", status: "False" }));
    expect(await attachmentPods()).toHaveLength(2);
    await cluster.system.run(["rollout", "status", "deployment/typevisor-operator", "--timeout=120s"], {
      timeoutMs: 130_000,
    });
    for (const disk of [1, 2]) {
      await guest.writeSector(disk, 7, 4711);
      expect(await guest.readSector(disk, 7)).toBe(4711n);
    }
  });

  it("keep their claims from other machines", async () => {
    await kubectl.apply(testGuest("other", { disks: [files] }));
    const ready = await kubectl.vmCondition("other", "Ready", "False", "ClaimInUse");
    expect(ready.message).toContain(`VirtualMachine ${NAME}`);
    await kubectl.run(["delete", "vm", "other", "--timeout=60s"], { timeoutMs: 70_000 });
  });

  it("go when they are removed, and come again with what was written, though the node agent was away", async () => {
    await setDisks(scratch);
    await disksAre({ scratch: "Attached" });
    await eventually("the attachment pods to go", TIMEOUT_MS, async () => (await attachmentPods()).length === 0);
    await cluster.system.run(["rollout", "restart", "daemonset/typevisor-node"]);
    await cluster.system.run(["rollout", "status", "daemonset/typevisor-node", "--timeout=120s"], {
      timeoutMs: 130_000,
    });
    await setDisks(scratch, device);
    await disksAre({ scratch: "Attached", device: "Attaching" });
    await using guest = await GuestSession.open(kubectl, NAME);
    expect(await guest.diskInfo(1)).toEqual({ name: "device", sizeBytes: 64 * MIB });
    expect(await guest.readSector(1, 7)).toBe(4711n);
    const events = (await kubectl.events(NAME)).map(({ reason }) => reason);
    expect(events).toEqual(expect.arrayContaining(["DiskAttaching", "DiskAttached", "DiskDetached"]));
  });

  it("outlast their attachment pod, whose place another one takes", async () => {
    const [first] = await attachmentPods();
    await kubectl.run(["delete", "pod", first?.metadata.name ?? "", "--wait=false"]);
    await eventually("another pod for the volume", TIMEOUT_MS, async () =>
      (await attachmentPods()).some(({ metadata }) => metadata.uid !== first?.metadata.uid),
    );
    await using guest = await GuestSession.open(kubectl, NAME);
    await guest.writeSector(1, 8, 4712);
    expect(await guest.readSector(1, 8)).toBe(4712n);
  });

  it("are ordinary ones after a restart", async () => {
    await kubectl.run(["delete", "pod", podOf(NAME)], { timeoutMs: 60_000 });
    await eventually("the next run", TIMEOUT_MS, async () => {
      const vm = await kubectl.get("vm", NAME);
      return vm?.status.podUID !== podUID && vm?.status.phase === "Running";
    });
    expect(await attachmentPods()).toEqual([]);
    await using guest = await GuestSession.open(kubectl, NAME);
    expect(await guest.diskInfo(1)).toEqual({ name: "device", sizeBytes: 64 * MIB });
    expect(await guest.readSector(1, 8)).toBe(4712n);
  });

  it("leave nothing behind when the machine is deleted with one of them", async () => {
    await setDisks(scratch, device, files);
    await disksAre({ scratch: "Attached", device: "Attached", files: "Attaching" });
    await cluster.deleteVm(kubectl, NAME);
    await eventually("the attachment pod to go", TIMEOUT_MS, async () => (await attachmentPods()).length === 0);
  });
});
