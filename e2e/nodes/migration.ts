import { closeSync, openSync, readSync } from "node:fs";
import { beforeAll, describe, expect, it } from "@jest/globals";
import type { VirtualMachineMigrationStatus } from "../../crds/src/virtualmachinemigration.ts";
import { checkJournal, JOURNAL_BYTES } from "../../hack/power-cut/journal.ts";
import type { TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { GuestSession } from "../support/guest-session.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { migrationManifest, openConsole, podOf, testGuest } from "../support/vm.ts";
import { START_TIMEOUT_MS, sharedDiskFile } from "./qemu-cluster.ts";
import { NODES } from "./volumes.ts";

type Migration = KubeObject<VirtualMachineMigrationStatus>;

/** Disks of the machine, as the guest counts them. */
const [BLOCK, NFS, ROOT, SCRATCH] = [0, 1, 2, 3];
/** Between disks of a kind that both nodes reach, and of one that is copied. */
const disks = [
  { name: "block", persistentVolumeClaim: { claimName: "shared" } },
  { name: "nfs", persistentVolumeClaim: { claimName: "nfs" } },
  // Any file of an image is a disk.
  {
    name: "root",
    image: { reference: "docker.io/typevisor/launcher:dev", path: "/usr/share/typevisor/CLOUDHV_EFI.fd" },
  },
  { name: "scratch", emptyDisk: { size: "16Mi" } },
];
const FIRST_POD = podOf("mover");
const SECOND_POD = "vm2-mover";
const MEMORY = "0x1000000 1000 3";
const NEIGHBOURS = ["neighbour", "other"];
const MOVE_TIMEOUT_MS = 240_000;

/** Machines go from one node to the other and back, and off a node that is drained, and nothing in them is lost. */
export function migrationTests(opened: () => { readonly cluster: TestCluster; readonly kubectl: Kubectl }): void {
  describe("a machine that moves between two nodes", () => {
    let cluster: TestCluster;
    let kubectl: Kubectl;
    /** Where the controllers are: they are not drained, since to come up elsewhere takes minutes on emulated nodes. */
    let home: string;
    let away: string;
    let startedAt: string | undefined;

    beforeAll(async () => {
      ({ cluster, kubectl } = opened());
      home = await controllersNode();
      away = NODES.find((name) => name !== home) ?? "";
      await kubectl.apply({
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "mover" },
        spec: { selector: { app: "mover" }, ports: [{ port: 80 }] },
      });
      await kubectl.apply(testGuest("mover", { ...preferring(home), disks }));
      for (const name of NEIGHBOURS)
        await kubectl.apply(testGuest(name, { ...preferring(away), evictionStrategy: "LiveMigrate" }));
      for (const name of ["mover", ...NEIGHBOURS])
        await kubectl.waitFor("vm", name, "condition=Migratable", START_TIMEOUT_MS);
      const vm = await kubectl.get("vm", "mover");
      expect(vm?.status).toMatchObject({ node: home, podName: FIRST_POD });
      startedAt = vm?.status.startedAt;
    }, 2 * START_TIMEOUT_MS);

    const controllersNode = async () => {
      const [pod] = await cluster.system.list("pods", "app.kubernetes.io/component=controllers");
      return String(pod?.spec["nodeName"]);
    };
    const move = async (name: string, target: object = {}) => {
      await kubectl.apply(migrationManifest(name, { virtualMachineName: "mover", target }));
      await kubectl.waitFor("vmm", name, "condition=Ready", MOVE_TIMEOUT_MS);
      return ((await kubectl.get("vmm", name)) as Migration).status;
    };
    const isIn = (pod: string, node: string) =>
      eventually(`the machine is in ${pod} on ${node}, as it was started`, 60_000, async () => {
        const { status } = (await kubectl.get("vm", "mover")) ?? {};
        if (status?.podName !== pod || status.phase !== "Running") return null;
        expect(status).toMatchObject({ node, startedAt, restarts: 0 });
        return status;
      });
    const endpoints = async () => {
      const slices = await kubectl.list("endpointslices", "kubernetes.io/service-name=mover");
      const all = slices as unknown as { endpoints?: { addresses: string[]; conditions?: { ready?: boolean } }[] }[];
      return all
        .flatMap((slice) => slice.endpoints ?? [])
        .filter(({ conditions }) => conditions?.ready === true)
        .flatMap(({ addresses }) => addresses);
    };
    /** The guest ends a transaction that it began since we look. A kubelet that is as slow as an emulated one drops consoles. */
    const journalGoesOn = (pod: string) =>
      eventually("another transaction", 180_000, async () => {
        await using console = kubectl.interactive(["exec", "-i", pod, "--", "console", "--no-history"]);
        return await console.expect(/durable \d+\r?\n.*durable \d+\r?\n/s, 60_000);
      });

    const runs = () =>
      Promise.all(
        NEIGHBOURS.map(async (name) => {
          const { node, podName, phase, startedAt, restarts } = (await kubectl.get("vm", name))?.status ?? {};
          return { name, node, podName, phase, startedAt, restarts };
        }),
      );

    it("goes on there with its memory, time and disks, shared and copied, and the Service follows", async () => {
      {
        await using guest = await GuestSession.open(kubectl, "mover");
        expect(await guest.ask(`fill ${MEMORY}`)).toContain("fill done");
        for (const disk of [BLOCK, NFS, ROOT, SCRATCH]) await guest.writeSector(disk, 1000, 100 + disk);
      }
      {
        await using console = await openConsole(kubectl, "mover");
        // Some 10 ms: an emulated processor has time for something else between two of its interrupts.
        console.write("timer 30000000 1\rload 0x800000 300\r");
        await console.expect(/load runs/);
      }
      const status = await move("there", { nodeName: away });
      expect(status).toMatchObject({ source: { node: home }, target: { node: away, podName: SECOND_POD } });
      const { podIP = "?" } = await isIn(SECOND_POD, away);
      {
        await using console = await openConsole(kubectl, "mover", SECOND_POD);
        console.write("stop\r");
        await console.expect(/load rounds \d+ errors 0 backward 0 .* ticks [1-9]/, 60_000);
      }
      await using guest = await GuestSession.open(kubectl, "mover", SECOND_POD);
      expect(await guest.ask(`check ${MEMORY}`)).toContain("check errors 0");
      for (const disk of [BLOCK, NFS, ROOT, SCRATCH]) {
        expect(await guest.readSector(disk, 1000)).toBe(BigInt(100 + disk));
        await guest.writeSector(disk, 1001, 200 + disk);
      }
      await eventually("the Service leads there alone", 60_000, async () => (await endpoints()).join() === podIP);
    });

    it("comes back to where the scheduler puts it, while it writes to the disk that both nodes have", async () => {
      {
        await using guest = await GuestSession.open(kubectl, "mover", SECOND_POD);
        for (const disk of [NFS, ROOT, SCRATCH]) expect(await guest.readSector(disk, 1001)).toBe(BigInt(200 + disk));
      }
      {
        await using console = await openConsole(kubectl, "mover", SECOND_POD);
        console.write(`blkjournal ${BLOCK} 1\r`);
        await console.expect(/durable 1\r?\n/);
      }
      await move("back");
      const { podIP = "?" } = await isIn(FIRST_POD, home);
      await journalGoesOn(FIRST_POD);
      await eventually("the Service leads back", 60_000, async () => (await endpoints()).join() === podIP);
    });

    it("has lost nothing of what its guest was told is on the disk", async () => {
      await kubectl.run(["patch", "vm", "mover", "--type=merge", "-p", '{"spec":{"paused":true}}']);
      await kubectl.vmCondition("mover", "Paused", "True");
      {
        await using console = kubectl.interactive(["exec", "-i", FIRST_POD, "--", "console"]);
        const [, last] = await console.expect(/.*durable (\d+)\r?\n/s, 60_000);
        expect(checkJournal(firstBytes(sharedDiskFile(), JOURNAL_BYTES), Number(last))).toBeGreaterThan(10);
      }
      // A guest that never rests would leave little of an emulated processor to what follows.
      await kubectl.run(["delete", "vm", "mover", "--timeout=120s"], { timeoutMs: 130_000 });
    });

    it("leaves a node that is drained with another one, and is not restarted", async () => {
      for (const name of NEIGHBOURS) {
        await using guest = await GuestSession.open(kubectl, name);
        expect(await guest.ask(`fill ${MEMORY}`)).toContain("fill done");
      }
      const before = await runs();
      expect(before.map(({ node }) => node)).toEqual([away, away]);
      const drained = await cluster.system.run(
        ["drain", away, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=400s"],
        { timeoutMs: 410_000 },
      );
      expect(drained).toContain(`node/${away} drained`);
      await cluster.system.run(["uncordon", away]);
      const after = before.map((run) => ({ ...run, node: home, podName: `vm2-${run.name}`, phase: "Running" }));
      await eventually("both are there, as they were started", MOVE_TIMEOUT_MS, async () => {
        expect(await runs()).toEqual(after);
        return true;
      });
      for (const name of NEIGHBOURS) {
        await using guest = await GuestSession.open(kubectl, name, `vm2-${name}`);
        expect(await guest.ask(`check ${MEMORY}`)).toContain("check errors 0");
      }
    });
  });
}

/** Of a machine's spec: starts there where there is room, and may move away. */
function preferring(node: string) {
  const matchExpressions = [{ key: "kubernetes.io/hostname", operator: "In" as const, values: [node] }];
  const weighted = [{ weight: 1, preference: { matchExpressions } }];
  const nodeAffinity = { preferredDuringSchedulingIgnoredDuringExecution: weighted };
  return { template: { spec: { affinity: { nodeAffinity } } } };
}

function firstBytes(path: string, count: number): Buffer {
  const bytes = Buffer.alloc(count);
  const file = openSync(path, "r");
  try {
    readSync(file, bytes);
  } finally {
    closeSync(file);
  }
  return bytes;
}
