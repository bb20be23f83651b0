import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { CommandError, run } from "../../lib/step.ts";
import type { Layout, NodeIdentity } from "../layout.ts";
import { inNetns, netnsFile } from "../network.ts";
import { ensureProcess, stopProcess } from "../processes.ts";
import { thinArchive } from "./thin-archive.ts";

const keyFile = (layout: Layout) => join(layout.stateDir, "ssh/key");
const controlSocket = (layout: Layout, node: NodeIdentity) => join(layout.runDir, `ssh-${node.name}`);

/** Makes the key with which the nodes let us in; gives the path of its private half. */
export async function ensureSshKey(layout: Layout): Promise<string> {
  const file = keyFile(layout);
  if (!existsSync(file)) {
    await mkdir(dirname(file), { recursive: true });
    await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", layout.netns, "-f", file]);
  }
  return file;
}

/** The network is ours alone, and a node makes its host key when it first boots: there is nothing to compare it with. */
function sshOptions(layout: Layout): string[] {
  const options = [
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=15",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    `IdentityFile=${keyFile(layout)}`,
    "IdentitiesOnly=yes",
  ];
  return ["-F", "/dev/null", ...options.flatMap((option) => ["-o", option])];
}

/** Runs `command` (one line for the node's shell) on a node; a shell where none is given. */
export function sshCommand(layout: Layout, node: NodeIdentity, command: readonly string[]): string[] {
  const reuse = ["-o", "ControlMaster=no", "-S", controlSocket(layout, node)];
  return inNetns(layout, "ssh", ...sshOptions(layout), ...reuse, `root@${node.addresses.IPv4}`, ...command);
}

/** Keeps one connection open, so that a command costs no key exchange, which is slow on an emulated node. */
export async function ensureSshMaster(
  layout: Layout,
  node: NodeIdentity,
  cgroupProcs: readonly string[],
): Promise<void> {
  const master = ["-N", "-M", "-S", controlSocket(layout, node)];
  await ensureProcess(layout, {
    name: `ssh-${node.name}`,
    netns: netnsFile(layout),
    cgroupProcs,
    argv: ["ssh", ...sshOptions(layout), ...master, `root@${node.addresses.IPv4}`],
  });
}

/** The connection to a VM that was ended would make every command wait for nothing. */
export async function stopSshMaster(layout: Layout, node: NodeIdentity): Promise<void> {
  await stopProcess(layout, `ssh-${node.name}`, 2000);
}

/** Imports an OCI archive into the containerd of a node; what the node has of it is not sent again. */
export async function loadQemuImage(layout: Layout, node: NodeIdentity, archive: string): Promise<void> {
  const present = await run(sshCommand(layout, node, ["ctr --namespace k8s.io content list --quiet"]));
  const thin = thinArchive(archive, new Set(present.trim().split("\n")));
  await sendFile(layout, node, thin, "ctr --namespace k8s.io images import - >/dev/null");
}

/** Copies a file of this machine to `path` on a node. */
export async function copyToQemuNode(layout: Layout, node: NodeIdentity, file: string, path: string): Promise<void> {
  const { size } = await stat(file);
  await sendFile(layout, node, file, `cat >'${path}' && [ "$(stat -c %s '${path}')" = ${size} ]`);
}

/**
 * Sends a file into the standard input of a command on a node, beside ssh, not through it: an emulated node decrypts
 * some 5 MB/s and receives plain bytes at 30 MB/s. The network is ours alone.
 */
async function sendFile(layout: Layout, node: NodeIdentity, file: string | Readable, command: string): Promise<void> {
  const port = randomInt(20_000, 30_000);
  const receive = run(sshCommand(layout, node, [`busybox nc -l -p ${port} </dev/null | { ${command}; }`]));
  const target = `TCP:${node.addresses.IPv4}:${port},retry=100,interval=0.1`;
  const send = copyByStream(file, inNetns(layout, "socat", "-b", "1048576", "-u", "STDIN", target));
  const [received, sent] = await Promise.allSettled([receive, send]);
  // If both failed, the node's reason explains the other.
  for (const result of [received, sent]) if (result.status === "rejected") throw result.reason;
}

/** Sends a file, or what a stream gives, into the standard input of a command. */
export async function copyByStream(file: string | Readable, command: readonly string[]): Promise<void> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: ["pipe", "inherit", "inherit"] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  const source = typeof file === "string" ? createReadStream(file, { highWaterMark: 1 << 20 }) : file;
  const sent = pipeline(source, child.stdin);
  // The exit code says more than the broken pipe that follows from it.
  const [code, sending] = await Promise.all([
    ended,
    sent.then(
      () => undefined,
      (error: Error) => error,
    ),
  ]);
  if (code !== 0) throw new CommandError(command, code, sending?.message ?? "");
}
