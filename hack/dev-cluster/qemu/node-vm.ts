import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run, say, succeeds, tail } from "../../lib/step.ts";
import { familyAddresses, type Layout, type NodeIdentity } from "../layout.ts";
import { ensureTap, netnsFile } from "../network.ts";
import {
  type EnsureResult,
  ensureProcess,
  isProcessRunning,
  logFileOf,
  type ProcessSpec,
  runsAs,
  stopProcess,
} from "../processes.ts";
import { type Acceleration, accelerationArguments } from "./acceleration.ts";
import { type OverlayFile, writeOverlay } from "./initramfs.ts";
import type { NodeImage } from "./node-image.ts";
import { ensureSshKey, ensureSshMaster, sshCommand, stopSshMaster } from "./ssh.ts";

export interface NodeVmOptions {
  readonly image: NodeImage;
  readonly acceleration: Acceleration;
  readonly memoryMiB: number;
  /** One is the safe number under emulation: with more, QEMU's TCG now and then breaks the kernel's code patching. */
  readonly cpus?: number;
  readonly cgroupProcs: readonly string[];
  /** Placed on the root disk at each boot; `/etc/node/start` is run once ssh answers. */
  readonly files?: readonly OverlayFile[];
  /** Raw disks beside the root disk, in PCI order; a shared one may be given to several nodes. */
  readonly extraDisks?: ReadonlyArray<{ readonly file: string; readonly shared?: boolean }>;
  /** Static routes: address range -> gateway. */
  readonly routes?: ReadonlyArray<{ readonly range: string; readonly via: string }>;
}

/** A node VM that did not come up, however often it was started. */
export class NodeBootError extends Error {
  override name = "NodeBootError";
  readonly node: string;
  readonly consoleLog: string;
  constructor(node: string, reason: string, consoleLog: string, lines: string) {
    super(`${node} did not boot: ${reason}\n${lines}\nWhole console: ${consoleLog}`);
    this.node = node;
    this.consoleLog = consoleLog;
  }
}

const maximumStarts = 3;
const silenceMs = 40_000;
const bootTimeoutMs = 300_000;
const modules = ["overlay", "br_netfilter", "bridge", "veth", "loop", "tun", "vhost_net", "kvm-amd", "kvm-intel"];

/** Where a node VM's console is written. */
export function consoleLogOf(layout: Layout, node: NodeIdentity): string {
  return logFileOf(layout, `${node.name}-console`);
}

/** Starts the VM unless it runs, and returns when it answers over ssh. Its disk keeps what earlier runs wrote. */
export async function ensureNodeVm(layout: Layout, node: NodeIdentity, options: NodeVmOptions): Promise<EnsureResult> {
  await ensureSshKey(layout);
  await ensureTap(layout, tapOf(node));
  const spec: ProcessSpec = {
    name: node.name,
    netns: netnsFile(layout),
    cgroupProcs: options.cgroupProcs,
    argv: qemuCommand(layout, node, options, await writeInitramfs(layout, node, options)),
  };
  if ((await runsAs(layout, spec)) && (await answers(layout, node))) {
    await ensureSshMaster(layout, node, options.cgroupProcs);
    return "kept";
  }
  await stopProcess(layout, node.name);
  await prepareDisk(layout, node, options.image);
  const result = await boot(layout, node, spec);
  await ensureSshMaster(layout, node, options.cgroupProcs);
  return result;
}

/** Starts QEMU, again if the kernel dies on the way: under emulation one boot in some sixty does. */
async function boot(layout: Layout, node: NodeIdentity, spec: ProcessSpec): Promise<EnsureResult> {
  const log = consoleLogOf(layout, node);
  for (let start = 1; ; start++) {
    await stopProcess(layout, node.name);
    await stopSshMaster(layout, node);
    await rm(log, { force: true });
    const result = await ensureProcess(layout, spec);
    const problem = await watchBoot(layout, node);
    if (problem === undefined) return result;
    if (start === maximumStarts) throw new NodeBootError(node.name, problem, log, await tail(log));
    say(`${node.name}: ${problem}; starting it again (${start + 1} of ${maximumStarts})`);
  }
}

/** The name tells the content, so that a node whose files have changed is seen to run with old ones. */
async function writeInitramfs(layout: Layout, node: NodeIdentity, options: NodeVmOptions): Promise<string> {
  const overlay = writeOverlay([...(await baseFiles(layout, node, options)), ...(options.files ?? [])]);
  const content = Buffer.concat([await readFile(options.image.initramfs), overlay]);
  const dir = vmDir(layout, node);
  const name = `initramfs-${createHash("sha256").update(content).digest("hex").slice(0, 12)}`;
  if (existsSync(join(dir, name))) return join(dir, name);
  await mkdir(dir, { recursive: true });
  for (const old of await readdir(dir)) if (old.startsWith("initramfs-")) await rm(join(dir, old));
  await writeFile(join(dir, name), content, { mode: 0o600 });
  return join(dir, name);
}

async function prepareDisk(layout: Layout, node: NodeIdentity, image: NodeImage): Promise<void> {
  const disk = join(vmDir(layout, node), "disk.qcow2");
  // A disk of another image cannot be carried over.
  if (existsSync(disk) && !(await run(["qemu-img", "info", disk])).includes(image.disk)) await rm(disk);
  if (existsSync(disk)) return;
  await run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image.disk, disk]);
}

async function baseFiles(layout: Layout, node: NodeIdentity, options: NodeVmOptions): Promise<OverlayFile[]> {
  const env = {
    NODE_NAME: node.name,
    NODE_ADDRESS: `${node.addresses.IPv4}/${familyAddresses.IPv4.prefixLength}`,
    NODE_GATEWAY: familyAddresses.IPv4.controlPlane,
    NODE_ADDRESS6: `${node.addresses.IPv6}/${familyAddresses.IPv6.prefixLength}`,
    NODE_GATEWAY6: familyAddresses.IPv6.controlPlane,
    NODE_ROUTES: (options.routes ?? []).map(({ range, via }) => `${range},${via}`).join(" "),
    NODE_MODULES: modules.join(" "),
  };
  const lines = Object.entries(env).map(([name, value]) => `${name}='${value}'\n`);
  return [
    { path: "/usr/sbin/node-init", content: await readFile(join(import.meta.dirname, "node-init")), mode: 0o755 },
    { path: "/etc/node/env", content: lines.join("") },
    { path: "/etc/hosts", content: `127.0.0.1 localhost\n${node.addresses.IPv4} ${node.name}\n`, mode: 0o644 },
    { path: "/root/.ssh/authorized_keys", content: await readFile(`${await ensureSshKey(layout)}.pub`) },
  ];
}

function qemuCommand(layout: Layout, node: NodeIdentity, options: NodeVmOptions, initramfs: string): string[] {
  const dir = vmDir(layout, node);
  // Fixed PCI slots: the name of a disk must not depend on how many there are.
  const disks = [{ file: join(dir, "disk.qcow2"), format: "qcow2", shared: false }].concat(
    (options.extraDisks ?? []).map(({ file, shared }) => ({ file, format: "raw", shared: shared ?? false })),
  );
  return [
    ...["qemu-system-x86_64", "-name", `${layout.netns}-${node.name}`, "-M", "q35", "-nodefaults", "-display", "none"],
    ...accelerationArguments(options.acceleration),
    ...["-smp", String(options.cpus ?? 1), "-m", `${options.memoryMiB}M`, "-no-reboot"],
    ...["-kernel", options.image.kernel, "-initrd", initramfs],
    ...["-append", "console=ttyS0 panic=-1 oops=panic mitigations=off random.trust_cpu=on"],
    ...["-serial", `file:${consoleLogOf(layout, node)}`],
    ...["-device", "virtio-rng-pci,addr=2"],
    ...["-netdev", `tap,id=net,ifname=${tapOf(node)},script=no,downscript=no`],
    ...["-device", `virtio-net-pci,netdev=net,mac=${macOf(node)},addr=3,romfile=`],
    ...disks.flatMap(({ file, format, shared }, index) => {
      const cache = shared ? "cache=none,file.locking=off" : "cache=unsafe";
      const share = shared ? ",share-rw=on" : "";
      return [
        ...["-drive", `if=none,id=disk${index},file=${file},format=${format},${cache},discard=unmap`],
        ...["-device", `virtio-blk-pci,drive=disk${index},addr=${(4 + index).toString(16)}${share}`],
      ];
    }),
  ];
}

/** Follows a boot to its end: undefined when the node answers, otherwise what went wrong. */
async function watchBoot(layout: Layout, node: NodeIdentity): Promise<string | undefined> {
  const startedMs = performance.now();
  const log = consoleLogOf(layout, node);
  let seenBytes = -1;
  let heardMs = startedMs;
  for (;;) {
    const sizeBytes = await stat(log).then(
      ({ size }) => size,
      () => 0,
    );
    if (sizeBytes !== seenBytes) heardMs = performance.now();
    seenBytes = sizeBytes;
    const text = await readFile(log, "utf8").catch(() => "");
    const complaint = kernelComplaint(text);
    if (complaint) return `its kernel failed (${complaint})`;
    if (!(await isProcessRunning(layout, node.name))) {
      return `QEMU ended: ${(await tail(logFileOf(layout, node.name), 3)).trim()}`;
    }
    if (text.includes("node: ssh") && (await answers(layout, node))) return undefined;
    if (performance.now() - heardMs > silenceMs) return `its console was silent for ${silenceMs / 1000} s`;
    if (performance.now() - startedMs > bootTimeoutMs) return `it did not answer within ${bootTimeoutMs / 1000} s`;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

/** The line in which a kernel says that it is broken. */
export function kernelComplaint(consoleText: string): string | undefined {
  return /^.*(Kernel panic|Oops:|BUG: |general protection fault|int3: ).*$/m.exec(consoleText)?.[0].trim();
}

async function answers(layout: Layout, node: NodeIdentity): Promise<boolean> {
  return succeeds(sshCommand(layout, node, ["true"]), { timeoutMs: 30_000 });
}

function vmDir(layout: Layout, node: NodeIdentity): string {
  return join(layout.stateDir, "vms", node.name);
}

function tapOf(node: NodeIdentity): string {
  return `tap-${node.name}`;
}

/** Locally administered. */
function macOf(node: NodeIdentity): string {
  return `52:54:00:1e:00:${(10 + node.number).toString(16).padStart(2, "0")}`;
}
