import { run, step } from "../lib/step.ts";
import { ensureCgroup } from "./cgroups.ts";
import { down } from "./down.ts";
import { type Layout, layoutOf, type NodeIdentity, nodeIdentity } from "./layout.ts";
import { ensureNetwork } from "./network.ts";
import { chooseAcceleration } from "./qemu/acceleration.ts";
import { buildNodeImage, type NodeImageOptions } from "./qemu/node-image.ts";
import { ensureNodeVm } from "./qemu/node-vm.ts";
import { copyToQemuNode, sshCommand } from "./qemu/ssh.ts";

export interface LinuxNodeOptions {
  /** At most 20 small letters, digits and `-`; a name of its own, not a cluster's. */
  readonly name: string;
  /** Debian packages and files beside the usual ones. */
  readonly image?: NodeImageOptions;
  /** Default 3072. */
  readonly memoryMiB?: number;
  /** Default 1. */
  readonly cpus?: number;
}

/** One node VM without Kubernetes: a Linux with a /dev/kvm that runs Linux, whatever this machine's own can do. */
export interface LinuxNode {
  /** Runs one line in the node's shell and gives its standard output; rejects with a CommandError if it fails. */
  run(command: string, timeoutMs?: number): Promise<string>;
  /** The program and arguments that run `command` there, for callers that stream. */
  command(command: string): string[];
  copyIn(file: string, path: string): Promise<void>;
  /** Ends the VM and removes its files. */
  remove(): Promise<void>;
}

/** Starts the VM unless it runs; returns when it takes commands. */
export async function ensureLinuxNode(options: LinuxNodeOptions): Promise<LinuxNode> {
  const layout = layoutOf(options.name);
  const node = nodeIdentity(1);
  const image = await buildNodeImage(options.image ?? {});
  await step(`Node VM ${options.name}`, 20, async () => {
    await ensureNetwork(layout, undefined);
    await ensureNodeVm(layout, node, {
      image,
      acceleration: await chooseAcceleration(),
      memoryMiB: options.memoryMiB ?? 3072,
      cpus: options.cpus ?? 1,
      cgroupProcs: await ensureCgroup(layout.cgroup),
    });
  });
  return linuxNode(layout, node);
}

function linuxNode(layout: Layout, node: NodeIdentity): LinuxNode {
  return {
    run: (command, timeoutMs) =>
      run(sshCommand(layout, node, [command]), { label: command, ...(timeoutMs ? { timeoutMs } : {}) }),
    command: (command) => sshCommand(layout, node, [command]),
    copyIn: (file, path) => copyToQemuNode(layout, node, file, path),
    remove: () => down(layout),
  };
}
