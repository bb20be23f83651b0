import { say, step } from "../lib/step.ts";
import { UsageError } from "./args.ts";
import type { Layout, NodeIdentity } from "./layout.ts";
import { loadNativeImage, onNativeNode } from "./native/node.ts";
import { copyByStream, copyToQemuNode, loadQemuImage, sshCommand } from "./qemu/ssh.ts";
import { type ClusterState, nodesOf } from "./state.ts";
import { ensureTools } from "./tools/tools.ts";

/** Imports an OCI archive into every node. */
export async function loadImage(layout: Layout, state: ClusterState, archive: string): Promise<void> {
  await step(`Loading ${archive}`, 5, async () => {
    if (state.flavour === "native") return loadNativeImage(layout, await ensureTools(), archive);
    await Promise.all(nodesOf(state).map((node) => loadQemuImage(layout, node, archive)));
  });
}

/** The command line that runs `command` on a node; a shell where none is given. */
export async function nodeCommand(
  layout: Layout,
  state: ClusterState,
  name: string | undefined,
  command: readonly string[],
): Promise<string[]> {
  const node = findNode(state, name);
  if (state.flavour === "qemu") return sshCommand(layout, node, command);
  const tools = await ensureTools();
  // As ssh does: what is given is one line for the node's shell.
  return onNativeNode(layout, tools, command.length > 0 ? ["sh", "-c", command.join(" ")] : ["sh"]);
}

/** Copies a file of this machine to `NODE:PATH`. */
export async function copyToNode(layout: Layout, state: ClusterState, args: readonly string[]): Promise<void> {
  const [file, target] = args;
  const match = /^([^:]+):(\/.*)$/.exec(target ?? "");
  if (!file || !match || args.length !== 2) throw new UsageError("copy needs FILE and NODE:/PATH");
  const node = findNode(state, match[1]);
  const path = match[2] ?? "";
  if (state.flavour === "qemu") await copyToQemuNode(layout, node, file, path);
  else await copyByStream(file, await nodeCommand(layout, state, node.name, [`cat >'${path}'`]));
  say(`copied ${file} to ${target}`);
}

function findNode(state: ClusterState, name: string | undefined): NodeIdentity {
  const nodes = nodesOf(state);
  const node = nodes.find((candidate) => candidate.name === name);
  if (node) return node;
  throw new UsageError(`the nodes are ${nodes.map((each) => each.name).join(", ")}, not '${name ?? ""}'`);
}
