import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ensureCgroup } from "../dev-cluster/cgroups.ts";
import { down } from "../dev-cluster/down.ts";
import { layoutOf, nodeIdentity } from "../dev-cluster/layout.ts";
import { ensureNetwork } from "../dev-cluster/network.ts";
import { stopProcess } from "../dev-cluster/processes.ts";
import { chooseAcceleration } from "../dev-cluster/qemu/acceleration.ts";
import { buildNodeImage } from "../dev-cluster/qemu/node-image.ts";
import { consoleLogOf, ensureNodeVm, kernelComplaint } from "../dev-cluster/qemu/node-vm.ts";
import { sshCommand, stopSshMaster } from "../dev-cluster/qemu/ssh.ts";
import { DebianRelease } from "../images/debian-packages.ts";
import { firmwareFile } from "../images/firmware.ts";
import { suite } from "../images/image.ts";
import { keyOf } from "../images/key.ts";
import { runtimeDirectory } from "../images/runtime.ts";
import { withLock } from "../lib/lock.ts";
import { run, say, step, succeeds } from "../lib/step.ts";
import { emulatedFirmwareDirectory } from "./emulated-firmware.ts";
import { unpackedGuests } from "./guest-images.ts";
import type { LinuxLab } from "./lab.ts";
import { requireLauncher } from "./launcher-bundle.ts";

const repository = join(import.meta.dirname, "..", "..");
/** Each checkout has its own: tests of two must not end each other's node. */
const layout = layoutOf(`lab-${createHash("sha256").update(repository).digest("hex").slice(0, 8)}`);
const node = nodeIdentity(1);
const memoryMiB = 2560;

/** QEMU to compare with, what loads guests' networks, and the libraries that Node is linked to. */
const extraPackages = ["iperf3", "libatomic1", "libstdc++6", "qemu-system-x86", "wrk"];

const paths = {
  node: "/usr/local/bin/node",
  guests: "/opt/typevisor/guests",
  firmware: `/opt/typevisor/firmware/${firmwareFile}`,
  scratch: "/var/tmp/lab",
} as const;
const launcherPath = "/opt/typevisor/launcher";

/** A node VM as the lab. It keeps running for the next one who asks, until `removeNodeLab`. */
export async function openNodeLab(): Promise<LinuxLab> {
  await withLock(layout.name, 30 * 60_000, startNode);
  return {
    kind: "node",
    paths,
    installLauncher,
    run: inNode,
    start: (line) => {
      const [program = "", ...args] = sshCommand(layout, node, [line]);
      return spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    },
    reach: forwardSocket,
    kernelComplaint: async () => kernelComplaint(await readFile(consoleLogOf(layout, node), "utf8").catch(() => "")),
    restart: async () => {
      say("lab: starting the node again");
      await stopSshMaster(layout, node);
      await stopProcess(layout, node.name, 0);
      await startNode();
    },
  };
}

/** Stops the node and removes what belongs to it, but not what is cached. */
export async function removeNodeLab(): Promise<void> {
  await withLock(layout.name, 30 * 60_000, () => down(layout));
}

function inNode(line: string, input?: string): Promise<string> {
  return run(sshCommand(layout, node, [line]), input === undefined ? {} : { input });
}

async function startNode(): Promise<void> {
  const guests = await unpackedGuests();
  const runtime = await runtimeDirectory({ debian: new DebianRelease(suite), repository, say });
  const firmware = await emulatedFirmwareDirectory();
  const contentKey = await keyOf([{ value: [guests.key, runtime, firmware] }]);
  const image = await buildNodeImage({
    extraPackages,
    content: {
      [paths.node]: join(runtime, "usr/local/bin/node"),
      [paths.guests]: guests.directory,
      [dirname(paths.firmware)]: firmware,
    },
    contentKey,
    freeMiB: 4096,
  });
  // A node that runs from another image would show its tests old guests.
  const current = await succeeds(sshCommand(layout, node, [`test "$(cat /etc/lab-image)" = ${contentKey}`]));
  if (!current) await stopProcess(layout, node.name, 0);
  await ensureNetwork(layout, undefined);
  const cgroupProcs = await ensureCgroup(layout.cgroup);
  await step("Starting the lab's node", 20, async () =>
    ensureNodeVm(layout, node, {
      image,
      acceleration: await chooseAcceleration(),
      memoryMiB,
      cgroupProcs,
      files: [
        { path: "/etc/lab-image", content: contentKey, mode: 0o644 },
        { path: `${paths.scratch}/README`, content: "Files of running tests\n" },
      ],
    }),
  );
}

/** Brings dist/launcher to the node, unless it is there already. */
async function installLauncher(): Promise<string> {
  const { directory, key } = await requireLauncher();
  const marker = `${launcherPath}/.key`;
  if (await succeeds(sshCommand(layout, node, [`test "$(cat ${marker})" = ${key}`]))) return launcherPath;
  const receive = sshCommand(layout, node, [
    `rm -rf ${launcherPath} && mkdir -p ${launcherPath} && tar -xf - -C ${launcherPath} && echo ${key} >${marker}`,
  ]);
  const quoted = receive.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  await run(["sh", "-c", `tar -cf - -C '${directory}' . | ${quoted}`]);
  return launcherPath;
}

/** Through the connection that is open anyway: a local socket that leads to the one in the node. */
async function forwardSocket(socketPath: string): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = join(layout.runDir, `forward-${randomUUID().slice(0, 8)}`);
  const master = (order: string) => run(sshCommand(layout, node, ["-O", order, "-L", `${path}:${socketPath}`]));
  await master("forward");
  return {
    path,
    async [Symbol.asyncDispose]() {
      // A node that was started again since has forgotten it.
      await master("cancel").catch(() => {});
      await rm(path, { force: true });
    },
  };
}
