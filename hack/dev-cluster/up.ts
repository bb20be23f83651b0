import { join } from "node:path";
import { ensureDebianPackages } from "../lib/debian-packages.ts";
import { withLock } from "../lib/lock.ts";
import { say, step, waitFor } from "../lib/step.ts";
import { type CommandLine, networkPoliciesAreQemu } from "./args.ts";
import { ensureCgroup } from "./cgroups.ts";
import { ensureControlPlane, ensureServiceProxy, kubectl } from "./control-plane.ts";
import { ensureClusterDns } from "./dns/cluster-dns.ts";
import { judge, measure } from "./kvm/verdict.ts";
import { type Flavour, type IpFamilies, type Layout, layoutOf, type NodeIdentity, nodeIdentity } from "./layout.ts";
import { applyMultusObjects, ensureMultus, waitForMultus } from "./multus/multus.ts";
import { ensureNativeNode } from "./native/node.ts";
import { ensureNetwork, ensurePodRoutes } from "./network.ts";
import { ensureNetworkPolicies } from "./network-policies/network-policies.ts";
import { ensurePki } from "./pki.ts";
import { chooseAcceleration } from "./qemu/acceleration.ts";
import { ensureQemuNodes, kubernetesNodeImage } from "./qemu/nodes.ts";
import { type ClusterState, freePort, nodesOf, readState, setCurrentName, writeState } from "./state.ts";
import { ensureLocalPath } from "./storage/local-path.ts";
import { ownGo } from "./tools/go.ts";
import { ensureKubeNetworkPolicies, ensureMultusPrograms, ensureTools, type Tools } from "./tools/tools.ts";

const defaultWorkers = 2;
const defaultNodeMemoryMiB = 3072;
const firstApiPort = 16443;
const defaultFamilies: IpFamilies = ["IPv4", "IPv6"];

/** Someone asks for a cluster that contradicts the one of that name. */
export class ClusterMismatchError extends Error {
  override name = "ClusterMismatchError";
}

/** Makes the cluster, or repairs it; changes nothing that is right. */
export async function up(options: CommandLine): Promise<Layout> {
  if (process.getuid?.() !== 0) throw new Error("a cluster needs namespaces and mounts. Next: run this as root");
  await installPackages();
  const { layout, flavour } = await chooseCluster(options);
  return withLock(`cluster/${layout.name}`, 30 * 60_000, async () => {
    const tools = await ensureTools();
    const state = await decideState(layout, flavour, options);
    // Built before the clock of the next step runs; it finds it in the cache.
    if (state.multus) await ensureMultusPrograms();
    if (flavour === "qemu") await kubernetesNodeImage(tools, { multus: state.multus ?? false });
    if (state.networkPolicies) await ensureKubeNetworkPolicies();
    await writeState(layout, state);
    await setCurrentName(layout.name);
    await step(`Cluster ${layout.name} (${flavour})`, flavour === "native" ? 15 : 60, () =>
      bringUp(layout, state, tools),
    );
    say(`Kubernetes answers on https://127.0.0.1:${state.apiPort}; KUBECONFIG=${layout.kubeconfig}`);
    return layout;
  });
}

/** Builds what any cluster may run, where it is missing. */
export async function buildPrograms(): Promise<void> {
  await installPackages();
  await ensureTools();
  await ensureMultusPrograms();
  await ensureKubeNetworkPolicies();
}

async function installPackages(): Promise<void> {
  const bringsGo = (await ownGo()) ? ["golang-go"] : [];
  await ensureDebianPackages(join(import.meta.dirname, "packages.txt"), bringsGo);
}

async function chooseCluster(options: CommandLine): Promise<{ layout: Layout; flavour: Flavour }> {
  const existing = options.name ? await readState(layoutOf(options.name)) : undefined;
  if (existing && options.name && (!options.flavour || options.flavour === existing.flavour)) {
    return { layout: layoutOf(options.name), flavour: existing.flavour };
  }
  if (existing) {
    throw new ClusterMismatchError(
      `cluster '${options.name}' has ${existing.flavour} nodes. Next: take another --name, or remove it with 'hack/cluster down --name ${options.name}'`,
    );
  }
  const verdict = options.flavour ? undefined : judge(await measure());
  if (verdict) say(`Nodes: ${verdict.flavour} - ${verdict.reason}`);
  const flavour = options.flavour ?? verdict?.flavour ?? "qemu";
  return { layout: layoutOf(options.name ?? `dev-${flavour}`), flavour };
}

async function decideState(layout: Layout, flavour: Flavour, options: CommandLine): Promise<ClusterState> {
  if (options.networkPolicies && flavour !== "qemu") throw new ClusterMismatchError(networkPoliciesAreQemu);
  const existing = await readState(layout);
  const additions = {
    multus: options.multus ?? existing?.multus ?? false,
    networkPolicies: options.networkPolicies ?? existing?.networkPolicies ?? false,
  };
  if (!existing) {
    return {
      flavour,
      workers: flavour === "native" ? 1 : (options.workers ?? defaultWorkers),
      nodeMemoryMiB: options.nodeMemoryMiB ?? defaultNodeMemoryMiB,
      apiPort: await freePort(firstApiPort),
      families: options.families ?? defaultFamilies,
      ...additions,
    };
  }
  const families = options.families ?? existing.families;
  const fits =
    String(families) === String(existing.families) &&
    (options.workers ?? existing.workers) === existing.workers &&
    (options.nodeMemoryMiB ?? existing.nodeMemoryMiB) === existing.nodeMemoryMiB;
  if (fits) return { ...existing, ...additions };
  throw new ClusterMismatchError(
    `cluster '${layout.name}' has ${existing.workers} nodes of ${existing.nodeMemoryMiB} MiB with ${existing.families}, and keeps them. ` +
      `Next: take another --name, or remove it with 'hack/cluster down --name ${layout.name}'`,
  );
}

async function bringUp(layout: Layout, state: ClusterState, tools: Tools): Promise<void> {
  const nodes = nodesOf(state);
  const first = nodes[0] ?? nodeIdentity(1);
  const native = state.flavour === "native";
  const { families, multus = false } = state;
  await ensurePki(layout.pkiDir, nodes);
  await ensureNetwork(layout, native ? first : undefined);
  const cgroupProcs = await ensureCgroup(layout.cgroup);
  const controlPlane = () => ensureControlPlane(layout, { tools, apiPort: state.apiPort, cgroupProcs, families });
  if (native) {
    await controlPlane();
    await ensureNativeNode(layout, first, { tools, cgroupProcs, families });
  } else {
    const acceleration = await chooseAcceleration();
    await ensurePodRoutes(layout, nodes);
    await Promise.all([
      // Before the nodes are there, for their daemons wait for it.
      controlPlane().then(() => (multus ? applyMultusObjects(layout, tools) : undefined)),
      ensureQemuNodes(layout, nodes, {
        tools,
        cgroupProcs,
        families,
        acceleration,
        multus,
        memoryMiB: state.nodeMemoryMiB,
      }),
    ]);
  }
  await waitForNodes(layout, tools, { nodes, families });
  if (multus) await (native ? ensureMultus(layout, { tools, cgroupProcs, node: first }) : waitForMultus(layout, nodes));
  await Promise.all([
    ensureServiceProxy(layout, { tools, cgroupProcs, families, node: first }),
    ensureLocalPath(layout, { tools, cgroupProcs }),
    ensureClusterDns(layout, { tools, cgroupProcs, families }),
    ...(state.networkPolicies ? [ensureNetworkPolicies(layout, state, tools)] : []),
  ]);
}

/** A node that can take pods: Ready, with its pod range, in a cluster that gives out service accounts. */
async function waitForNodes(
  layout: Layout,
  tools: Tools,
  { nodes, families }: { readonly nodes: readonly NodeIdentity[]; readonly families: IpFamilies },
): Promise<void> {
  for (const node of nodes) {
    await waitFor(() => isRegistered(layout, tools, node), {
      what: `node ${node.name} to register`,
      timeoutMs: 180_000,
      intervalMs: 250,
    });
    const podCIDRs = families.map((family) => node.podCidrs[family]);
    const range = { spec: { podCIDR: podCIDRs[0], podCIDRs } };
    await kubectl(layout, tools, ["patch", "node", node.name, "--patch", JSON.stringify(range)]);
  }
  const names = nodes.map((node) => `node/${node.name}`);
  await kubectl(layout, tools, ["wait", "--for=condition=Ready", "--timeout=180s", ...names]);
  await kubectl(layout, tools, ["wait", "--for=create", "--timeout=60s", "serviceaccount/default"]);
}

async function isRegistered(layout: Layout, tools: Tools, node: NodeIdentity): Promise<boolean> {
  return (await kubectl(layout, tools, ["get", "node", node.name, "--ignore-not-found", "-o=name"])) !== "";
}
