import { deepEqual, equal, match, ok } from "node:assert/strict";
import { eventually } from "../../e2e/support/eventually.ts";
import { podOf } from "../../e2e/support/vm.ts";
import { BOOT_MS, type Keeper, RUNS_MS } from "./keeper.ts";
import { CLAIM, DISK_BYTES, IMAGE, MACHINE, publicKey } from "./manifests.ts";

const COMMAND_MS = 180_000;
const SECTOR_BYTES = 512;

/** What the web server has been asked for: a line for each request, with its range. */
export type Requests = () => readonly string[];

export interface Proof {
  /** What is true once `prove` has resolved. */
  readonly title: string;
  readonly prove: (keeper: Keeper, requests: Requests) => Promise<void>;
}

/** In this order: each goes on where the one before ended. */
export const proofs: readonly Proof[] = [
  { title: "a qcow2 file is imported into the machine's claim, over a connection that breaks once", prove: isImported },
  { title: "the guest boots by UEFI from its own boot loader, kernel and root", prove: bootsByFirmware },
  { title: "cloud-init did what the seed says: user, key, file, host name, instance", prove: seedWasRead },
  { title: "the root file system's partition has grown to the end of the claim", prove: rootHasGrown },
  { title: "the guest powers off when its pod is deleted, and is started again", prove: isRestarted },
  { title: "its launcher is killed while it boots, and another one runs it", prove: launcherIsReplaced },
  { title: "its node is switched off, and runs it again", prove: nodeIsReplaced },
  { title: "after all of that the disk has what was written, and cloud-init did nothing twice", prove: diskIsKept },
  { title: "it reboots through the firmware, in the same pod", prove: rebootsInPlace },
];

async function isImported(keeper: Keeper, requests: Requests): Promise<void> {
  await keeper.nextRun();
  const image = await keeper.kubectl.get("vmimage", IMAGE);
  const { format, imports } = (image?.status ?? {}) as {
    readonly format?: string;
    readonly imports?: readonly { readonly claimName: string; readonly phase: string }[];
  };
  equal(format, "qcow2");
  deepEqual(
    imports?.map(({ claimName, phase }) => ({ claimName, phase })),
    [{ claimName: CLAIM, phase: "Completed" }],
  );
  const [first, ...others] = requests();
  equal(first, "GET all");
  ok(others.length > 0, "the connection did not break");
  for (const request of others) match(request, /^GET bytes=[1-9]\d*-$/);
}

async function bootsByFirmware(keeper: Keeper): Promise<void> {
  await keeper.boots();
  const ask = asker(keeper);
  equal(await ask("ls -d /sys/firmware/efi/efivars"), "/sys/firmware/efi/efivars");
  equal(await ask("findmnt -no SOURCE,FSTYPE /"), "/dev/vda1 ext4");
  match(await ask("cat /proc/cmdline"), /^BOOT_IMAGE=.*\/boot\/vmlinuz root=UUID=/);
  equal(await ask("cat /sys/block/vda/serial"), "root");
  equal(await ask("dmesg --level=err,crit,alert,emerg | grep -iE 'acpi|pci|efi' || true"), "");
}

async function seedWasRead(keeper: Keeper): Promise<void> {
  const ask = asker(keeper);
  equal(await ask("cloud-init status --wait | tail -1", BOOT_MS), "status: done");
  equal((await ask("cat ~keeper/.ssh/authorized_keys")).trim(), publicKey);
  equal(await ask("cat /etc/from-the-seed"), "written once");
  equal(await ask("cat /var/lib/cloud/data/instance-id"), keeper.vm.metadata.uid);
  equal(await ask("hostname"), MACHINE);
}

async function rootHasGrown(keeper: Keeper): Promise<void> {
  const ask = asker(keeper);
  const sectors = async (path: string) => Number(await ask(`cat /sys/block/vda/${path}`));
  const disk = await sectors("size");
  equal(disk, DISK_BYTES / SECTOR_BYTES);
  const end = (await sectors("vda1/start")) + (await sectors("vda1/size"));
  ok(end > disk - 4096, `the partition ends at sector ${end} of ${disk}`);
}

async function isRestarted(keeper: Keeper): Promise<void> {
  const ask = asker(keeper);
  await ask("head -c 8M /dev/urandom >/root/kept && sha256sum /root/kept >/root/kept.sum");
  await ask("echo and changed since >>/etc/from-the-seed && sync");
  await keeper.kubectl.run(["delete", "pod", podOf(MACHINE)], { timeoutMs: 300_000 });
  const { status } = await keeper.nextRun();
  equal(status.lastTermination?.message, "the guest powered off, as asked");
}

async function launcherIsReplaced(keeper: Keeper): Promise<void> {
  // The boot loader has handed over: from here on the guest mounts, checks and writes.
  equal(await keeper.shows(/Welcome to/), undefined);
  await keeper.killLauncher();
  await keeper.nextRun();
}

async function nodeIsReplaced(keeper: Keeper): Promise<void> {
  await keeper.cutPowerOfNode();
  await keeper.nextRun();
}

async function diskIsKept(keeper: Keeper): Promise<void> {
  await keeper.boots();
  const ask = asker(keeper);
  equal(await ask("cat /etc/from-the-seed"), "written once\nand changed since");
  equal(await ask("sha256sum --check --quiet /root/kept.sum"), "");
}

async function rebootsInPlace(keeper: Keeper): Promise<void> {
  keeper.console.type("reboot\n");
  await keeper.console.see(/BdsDxe/, BOOT_MS);
  const seen = await eventually("the reboot in the status", RUNS_MS, async () => {
    const found = await keeper.kubectl.get("vm", MACHINE);
    return found?.status.reboots === 1 ? found : null;
  });
  equal(seen.status.podUID, keeper.vm.status.podUID);
}

/** What a line in the guest's shell prints. */
function asker(keeper: Keeper) {
  return (line: string, timeoutMs = COMMAND_MS) => keeper.console.shell(line, timeoutMs);
}
