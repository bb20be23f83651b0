import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import {
  type Flavour,
  type IpFamilies,
  type Layout,
  layoutOf,
  type NodeIdentity,
  nodeIdentity,
  stateHome,
} from "./layout.ts";

/** What was decided when the cluster was made; `up` keeps to it. */
export interface ClusterState {
  readonly flavour: Flavour;
  readonly workers: number;
  readonly nodeMemoryMiB: number;
  /** On 127.0.0.1. */
  readonly apiPort: number;
  readonly families: IpFamilies;
  /** Whether pods get their networks through Multus. */
  readonly multus?: boolean;
  /** Whether nodes enforce NetworkPolicies. */
  readonly networkPolicies?: boolean;
}

const file = (layout: Layout) => join(layout.stateDir, "cluster.json");
const currentFile = () => join(stateHome(), "current");

export async function readState(layout: Layout): Promise<ClusterState | undefined> {
  if (!existsSync(file(layout))) return undefined;
  // Clusters of earlier versions had no choice.
  return { families: ["IPv4"], ...JSON.parse(await readFile(file(layout), "utf8")) } as ClusterState;
}

export async function writeState(layout: Layout, state: ClusterState): Promise<void> {
  await writeAtomic(file(layout), `${JSON.stringify(state, null, 2)}\n`);
}

export function nodesOf(state: ClusterState): NodeIdentity[] {
  return Array.from({ length: state.workers }, (_, index) => nodeIdentity(index + 1));
}

/** The cluster that a command without `--name` means: the one last brought up, or the only one. */
export async function currentName(): Promise<string | undefined> {
  const name = await readFile(currentFile(), "utf8").catch(() => "");
  const names = await clusterNames();
  return name.trim() || (names.length === 1 ? names[0] : undefined);
}

export async function setCurrentName(name: string): Promise<void> {
  await writeAtomic(currentFile(), `${name}\n`);
}

/** Forgets that this cluster was the last one brought up. */
export async function clearCurrentName(name: string): Promise<void> {
  if ((await currentName()) === name) await rm(currentFile(), { force: true });
}

export async function clusterNames(): Promise<string[]> {
  const names = await readdir(stateHome()).catch(() => []);
  return names.filter((name) => existsSync(join(stateHome(), name, "cluster.json"))).sort();
}

/** A port that nobody listens on and no cluster has, for one that is coming up listens late: the wanted one, or the next. */
export async function freePort(wanted: number): Promise<number> {
  const states = await Promise.all((await clusterNames()).map((name) => readState(layoutOf(name))));
  for (let port = wanted; port < wanted + 1000; port++) {
    if (states.some((state) => state?.apiPort === port)) continue;
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.once("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error(`no free port on 127.0.0.1 from ${wanted} to ${wanted + 999}`);
}

/** Replaces a file in one step, if it says something else; only its owner may read it. */
export async function writeAtomic(path: string, content: string): Promise<void> {
  // Certificates and configurations are watched by those who use them.
  if ((await readFile(path, "utf8").catch(() => undefined)) === content) return;
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(`${path}.new`, content, { mode: 0o600 });
  await rename(`${path}.new`, path);
}
