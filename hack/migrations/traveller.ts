import { readFile } from "node:fs/promises";
import type { VirtualMachineMigrationStatus } from "../../crds/src/virtualmachinemigration.ts";
import { eventually } from "../../e2e/support/eventually.ts";
import type { Kubectl, KubeObject } from "../../e2e/support/kubectl.ts";
import { runIn, toolboxPod } from "../../e2e/support/toolbox.ts";
import { migrationManifest } from "../../e2e/support/vm.ts";
import { MachineConsole } from "../cloud-image/machine-console.ts";
import { LOAD_PORT, loadProgram, type Seen, seen } from "./load.ts";

const NAME = "traveller";
const IMAGE = { reference: "docker.io/typevisor/guest-debian:dev", pullPolicy: "IfNotPresent" };
/** Of a Debian on an emulated node. */
const BOOT_MS = 900_000;
const MOVE_MS = 900_000;
const MEMORY_MIB = 16;
/** Of the disk that both nodes have. */
const SHARED = "/dev/vdb";

export interface Move {
  readonly from: string;
  readonly to: string;
  readonly tookMs: number;
  /** Absent where the old pod ended before it could be asked. */
  readonly downtimeMs?: number | undefined;
}

/** A Debian under load (load.pl), with an overlay that goes along and a disk that both nodes have. */
export class Traveller {
  readonly #kubectl: Kubectl;
  #moves = 0;

  private constructor(kubectl: Kubectl) {
    this.#kubectl = kubectl;
  }

  /** Boots it, and starts its load. */
  static async start(kubectl: Kubectl, sharedClaim: string): Promise<Traveller> {
    const data = { "load.pl": await readFile(loadProgram, "utf8") };
    await kubectl.apply({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "load" }, data });
    await kubectl.apply(toolboxPod("asker"));
    await kubectl.apply({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: NAME },
      spec: { selector: { app: NAME }, ports: [{ port: LOAD_PORT }] },
    });
    await kubectl.apply(machine(sharedClaim));
    const traveller = new Traveller(kubectl);
    await traveller.#startLoad();
    return traveller;
  }

  async #startLoad(): Promise<void> {
    await this.#kubectl.waitFor("vm", NAME, "condition=Migratable", BOOT_MS);
    using console = MachineConsole.open(this.#kubectl, NAME);
    await console.see(/root@debian:~# /, BOOT_MS);
    await console.shell("systemctl is-system-running --wait", BOOT_MS);
    await console.shell("dmesg --console-off; mount -o ro /dev/vdc /mnt && cp /mnt/load.pl /root && umount /mnt");
    await console.shell(`(setsid perl /root/load.pl ${SHARED} ${MEMORY_MIB} </dev/null >/root/load.log 2>&1 &)`);
  }

  /** Asks the guest by way of its Service; a new connection each time. */
  async ask(): Promise<Seen> {
    return await eventually("an answer of the guest through its Service", 300_000, async () =>
      seen.parse(JSON.parse(await runIn(this.#kubectl, "asker", `nc -w 30 ${NAME} ${LOAD_PORT} </dev/null`))),
    );
  }

  /** To the other node, from where it goes on in the same run. */
  async move(): Promise<Move> {
    const before = await this.#status();
    const name = `move-${++this.#moves}`;
    await this.#kubectl.apply(migrationManifest(name, { virtualMachineName: NAME }));
    await this.#kubectl.waitFor("vmm", name, "condition=Ready", MOVE_MS);
    const { status } = (await this.#kubectl.get("vmm", name)) as KubeObject<VirtualMachineMigrationStatus>;
    await this.#kubectl.run(["delete", "vmm", name, "--timeout=60s"], { timeoutMs: 70_000 });
    const after = await this.#status();
    if (after.startedAt !== before.startedAt || after.restarts !== 0)
      throw new Error(`the machine was started again: ${JSON.stringify(after)}`);
    const { startedAt, completedAt, result } = status;
    if (!startedAt || !completedAt) throw new Error(`nothing came of it: ${JSON.stringify(status)}`);
    return {
      from: status.source?.node ?? "?",
      to: status.target?.node ?? "?",
      tookMs: Date.parse(completedAt) - Date.parse(startedAt),
      downtimeMs: result?.downtimeMilliseconds,
    };
  }

  async #status() {
    const vm = await this.#kubectl.get("vm", NAME);
    if (!vm) throw new Error(`there is no machine ${NAME} any more`);
    return vm.status;
  }
}

function machine(sharedClaim: string): object {
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: { name: NAME, labels: { app: NAME } },
    spec: {
      cpu: { cores: 2 },
      memory: { size: "256Mi" },
      boot: {
        kernel: {
          image: IMAGE,
          path: "/boot/vmlinuz",
          initrd: "/boot/initrd.img",
          cmdline: "console=ttyS0 quiet root=/dev/vda rw",
        },
      },
      disks: [
        { name: "root", image: IMAGE },
        { name: "shared", persistentVolumeClaim: { claimName: sharedClaim } },
        { name: "load", configMap: { name: "load" } },
      ],
    },
  };
}
