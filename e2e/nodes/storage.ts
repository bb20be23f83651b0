import { beforeAll, describe, expect, it } from "@jest/globals";
import { eventually } from "../support/eventually.ts";
import { GuestSession } from "../support/guest-session.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { testGuest } from "../support/vm.ts";
import { START_TIMEOUT_MS } from "./qemu-cluster.ts";

const MIB = 2 ** 20;
const DATA_DISK_BYTES = 2 ** 30;

/** Machines on the claims of `volumes.ts`; they leave none of them in use. */
export function storageTests(inNamespace: () => Kubectl): void {
  describe("volumes of two nodes", () => {
    let kubectl: Kubectl;

    const start = (name: string, claimName: string, node: string) =>
      kubectl.apply(
        testGuest(name, {
          disks: [{ name: "data", persistentVolumeClaim: { claimName } }],
          template: { spec: { nodeSelector: { "kubernetes.io/hostname": node } } },
        }),
      );
    const runs = (name: string) => kubectl.waitFor("vm", name, "condition=Ready", START_TIMEOUT_MS);
    const drop = (...names: string[]) =>
      kubectl.run(["delete", "vm", ...names, "--timeout=120s"], { timeoutMs: 130_000 });
    const write = async (name: string, value: number) => {
      await using guest = await GuestSession.open(kubectl, name);
      await guest.writeSector(0, 7, value);
    };
    const read = async (name: string) => {
      await using guest = await GuestSession.open(kubectl, name);
      return { value: await guest.readSector(0, 7), ...(await guest.diskInfo(0)) };
    };

    beforeAll(async () => {
      kubectl = inNamespace();
      await start("shared-1", "shared", "node1");
      await start("nfs-1", "nfs", "node1");
      await start("own-2", "own", "node2");
    });

    it("a node's own block device, ReadWriteOnce, is a disk", async () => {
      await runs("own-2");
      await write("own-2", 4711);
      expect(await read("own-2")).toEqual({ value: 4711n, name: "data", sizeBytes: DATA_DISK_BYTES });
    });

    it("a block device of both, ReadWriteMany, has one machine at a time, and on each node the same content", async () => {
      await runs("shared-1");
      await write("shared-1", 4712);
      await start("shared-2", "shared", "node2");
      const refused = await kubectl.vmCondition("shared-2", "Ready", "False", "ClaimInUse");
      expect(refused.message).toContain("is in use by VirtualMachine shared-1");
      await drop("own-2", "shared-1");
      await runs("shared-2");
      expect(await read("shared-2")).toEqual({ value: 4712n, name: "data", sizeBytes: DATA_DISK_BYTES });
    });

    it("a directory on NFS, ReadWriteMany, refuses a second machine by its lock, also through another claim", async () => {
      await runs("nfs-1");
      await write("nfs-1", 4713);
      await start("nfs-2", "same-nfs", "node2");
      await eventually("the launcher's refusal", START_TIMEOUT_MS, async () => {
        const vm = await kubectl.get("vm", "nfs-2");
        return vm?.status.conditions?.some(({ message }) => /in use by another virtual machine/.test(message ?? ""));
      });
      await drop("shared-2", "nfs-1");
      await runs("nfs-2");
      expect(await read("nfs-2")).toEqual({ value: 4713n, name: "data", sizeBytes: 64 * MIB });
      await drop("nfs-2");
    });
  });
}
