import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { emulatedFirmwareDirectory } from "../../hack/dev-cluster/qemu/emulated-firmware.ts";
import { firmwareFile } from "../../hack/images/firmware.ts";
import { ConsoleEnded, ConsoleTimeout } from "../../hack/lib/guest-console.ts";
import { run, say } from "../../hack/lib/step.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { podOf } from "../support/vm.ts";
import { cloudImageFile } from "./cloud-image-file.ts";
import { FileServer } from "./file-server.ts";
import { MachineConsole } from "./machine-console.ts";

const root = join(import.meta.dirname, "..", "..");
const NAMESPACE = "cloud";
/** Also the guest's host name. */
const NAME = "keeper";
const STORAGE_CLASS = "imported";
const PROMPT = /root@keeper:~# /;
/** Of a whole guest, on a node that is emulated. */
const BOOT_MS = 900_000;
/** Until its guest runs, import and pod included. */
const RUNS_MS = 600_000;
/** A guest that says nothing for so long has met a fault of the emulated node; it is started again, twice at most. */
const SILENCE_MS = 240_000;
const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKTlL5IyCkE2H+KbpbF54LhR1TGBaddByS3+3XkspRUd keeper@example";
const userData = `#cloud-config
# Other keys take an emulated processor long.
ssh_genkeytypes: [ed25519]
users:
- {name: keeper, ssh_authorized_keys: [${publicKey}]}
write_files:
- {path: /etc/from-the-seed, content: "written once\\n"}
`;

/** A cloud image from a web server to a machine that keeps its disk, on the cluster of that name, with node VMs. */
export function describeCloudImage(clusterName: string, nodeName: () => Promise<string>): void {
  describe("a cloud image of a web server", () => {
    let cluster: TestCluster;
    let kubectl: Kubectl;
    let server: FileServer;
    let console: MachineConsole;
    let node: string;
    let vm: KubeObject;

    const onNode = (line: string, input?: Buffer) =>
      run([join(root, "hack/cluster"), "--name", clusterName, "ssh", node, line], {
        ...(input === undefined ? {} : { input }),
        timeoutMs: 120_000,
      });
    /** Waits for the machine to run in another pod than `before`'s. */
    const nextRun = (before: KubeObject | undefined) =>
      eventually("the machine to run", RUNS_MS, async () => {
        const seen = await kubectl.get("vm", NAME);
        if (seen?.status.phase === "Running" && seen.status.podUID !== before?.status.podUID) return seen;
        throw new Error(JSON.stringify(seen?.status.conditions));
      });
    const open = () => {
      console?.[Symbol.dispose]();
      console = MachineConsole.open(kubectl, NAME);
      return console;
    };
    /** Waits for the shell of root. */
    const boots = async () => {
      for (let start = 1; ; start++) {
        const problem = await comesUp(open);
        if (problem === undefined) return;
        if (start === 3) throw new Error(problem);
        say(`cloud image: ${problem}; starting it again (${start + 1} of 3)`);
        await kubectl.run(["delete", "pod", podOf(NAME), "--force", "--grace-period=0"]);
        vm = await nextRun(vm);
      }
    };
    const killLauncher = async () => {
      const uid = vm.status.podUID;
      const isOurs = `grep -q ${uid} $p/cgroup && tr '\\0' ' ' <$p/cmdline | grep -q 'launcher.* run '`;
      const killed = await onNode(
        `for p in /proc/[0-9]*; do if ${isOurs}; then kill -KILL \${p#/proc/} && echo killed; fi; done`,
      );
      expect(killed.trim()).toBe("killed");
    };

    beforeAll(async () => {
      cluster = await openTestCluster(clusterName);
      node = await nodeName();
      kubectl = await cluster.namespace(NAMESPACE);
      // The one in the launcher's image stops emulated nodes. Guests that start from now on get this one.
      const firmware = await readFile(join(await emulatedFirmwareDirectory(), firmwareFile));
      const layers = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
      const put = `find ${layers} -name ${firmwareFile} -exec cp /tmp/firmware {} \\; -print`;
      expect(await onNode(`cat >/tmp/firmware && ${put} && sync`, firmware)).toContain(firmwareFile);
      const { path, sha256 } = await cloudImageFile();
      server = await FileServer.start(layoutOf(clusterName), path);
      for (const manifest of manifests(server.url, sha256, node)) await kubectl.apply(manifest);
    }, BOOT_MS);

    afterAll(() => {
      console?.[Symbol.dispose]();
      server?.[Symbol.dispose]();
    });

    it("is imported into a claim of the machine's own, and goes on where the connection broke", async () => {
      vm = await nextRun(undefined);
      const image = (await kubectl.get("vmimage", "debian"))?.status as { format?: string; imports?: object[] };
      expect(image).toMatchObject({ format: "qcow2", imports: [{ claimName: `root-${NAME}`, phase: "Completed" }] });
      expect(server.requests[0]).toBe("GET all");
      expect(server.requests.slice(1).length).toBeGreaterThan(0);
      for (const request of server.requests.slice(1)) expect(request).toMatch(/^GET bytes=[1-9]\d*-$/);
    });

    it("boots by UEFI from its own boot loader, kernel and root", async () => {
      await boots();
      expect(await console.shell("ls -d /sys/firmware/efi/efivars")).toBe("/sys/firmware/efi/efivars");
      expect(await console.shell("findmnt -no SOURCE,FSTYPE /")).toBe("/dev/vda1 ext4");
      expect(await console.shell("cat /proc/cmdline")).toMatch(/^BOOT_IMAGE=.*\/boot\/vmlinuz root=UUID=/);
    });

    it("has the tables and devices that the firmware handed on", async () => {
      expect(await console.shell("cat /sys/block/vda/serial")).toBe("root");
      const filter = "dmesg --level=err,crit,alert,emerg | grep -iE 'acpi|pci|efi' || true";
      expect(await console.shell(filter)).toBe("");
    });

    it("does what its cloud-init seed says", async () => {
      expect(await console.shell("cloud-init status --wait | tail -1", BOOT_MS)).toBe("status: done");
      expect(await console.shell("cat ~keeper/.ssh/authorized_keys")).toContain(publicKey);
      expect(await console.shell("cat /etc/from-the-seed")).toBe("written once");
      expect(await console.shell("cat /var/lib/cloud/data/instance-id")).toBe(vm.metadata.uid);
      expect(await console.shell("hostname")).toBe(NAME);
    });

    it("has grown its root to the end of the claim, which is larger than the image", async () => {
      const sectors = async (path: string) => Number(await console.shell(`cat /sys/block/vda/${path}`));
      const disk = await sectors("size");
      expect(disk).toBe(2 ** 30 / 512);
      expect((await sectors("vda1/start")) + (await sectors("vda1/size"))).toBeGreaterThan(disk - 4096);
    });

    it("powers off when its pod is deleted, and is started again", async () => {
      await console.shell("head -c 8M /dev/urandom >/root/kept && sha256sum /root/kept >/root/kept.sum", 120_000);
      await console.shell("echo and changed since >>/etc/from-the-seed && sync", 120_000);
      await kubectl.run(["delete", "pod", podOf(NAME)], { timeoutMs: 200_000 });
      vm = await nextRun(vm);
      expect(vm.status.lastTermination).toMatchObject({ message: "the guest powered off, as asked" });
    });

    it("keeps what it wrote when its launcher is killed while it boots, and its node then starts again", async () => {
      open();
      await console.see("Welcome to", BOOT_MS);
      await killLauncher();
      vm = await nextRun(vm);
      await cluster.restart(node);
      vm = await nextRun(vm);
      await boots();
      expect(await console.shell("cat /etc/from-the-seed")).toBe("written once\nand changed since");
      expect(await console.shell("sha256sum --check --quiet /root/kept.sum", 120_000)).toBe("");
    });

    it("comes back through the firmware when it reboots, in the same pod", async () => {
      console.type("reboot\n");
      await console.see(/BdsDxe/, BOOT_MS);
      const seen = await eventually("the reboot in the status", RUNS_MS, async () => {
        const found = await kubectl.get("vm", NAME);
        return found?.status.reboots === 1 ? found : null;
      });
      expect(seen.status.podUID).toBe(vm.status.podUID);
    });
  });
}

/**
 * Undefined once root's shell is there. A console that ends is opened again: kubelets of emulated nodes are slow, and drop
 * what takes them long.
 */
async function comesUp(open: () => MachineConsole): Promise<string | undefined> {
  const deadlineMs = performance.now() + BOOT_MS;
  let console = open();
  for (;;) {
    try {
      await console.see(PROMPT, 1000);
      return undefined;
    } catch (error) {
      if (performance.now() > deadlineMs) return String(error);
      if (error instanceof ConsoleEnded) console = open();
      else if (!(error instanceof ConsoleTimeout)) throw error;
    }
    if (console.silentMs > SILENCE_MS)
      return `the guest was silent for ${SILENCE_MS / 1000} s: ${console.text.slice(-1000)}`;
  }
}

function manifests(url: string, sha256: string, node: string): object[] {
  const dataSourceRef = { apiGroup: "typevisor.io", kind: "VirtualMachineImage", name: "debian" };
  return [
    {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: STORAGE_CLASS },
      provisioner: "typevisor.io/import",
      parameters: { storageClassName: "local-path" },
      volumeBindingMode: "WaitForFirstConsumer",
    },
    {
      apiVersion: "typevisor.io/v1alpha1",
      kind: "VirtualMachineImage",
      metadata: { name: "debian" },
      spec: { source: { http: { url, checksum: { sha256 } } } },
    },
    {
      apiVersion: "typevisor.io/v1alpha1",
      kind: "VirtualMachine",
      metadata: { name: NAME },
      spec: {
        memory: { size: "512Mi" },
        disks: [
          { name: "root", volumeClaimTemplate: { name: "root" } },
          { name: "seed", cloudInit: { userData } },
        ],
        volumeClaimTemplates: [
          {
            metadata: { name: "root" },
            spec: { storageClassName: STORAGE_CLASS, resources: { requests: { storage: "1Gi" } }, dataSourceRef },
          },
        ],
        template: { spec: { nodeSelector: { "kubernetes.io/hostname": node } } },
      },
    },
  ];
}
