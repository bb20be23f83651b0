import { join } from "node:path";
import { layoutOf } from "../dev-cluster/layout.ts";
import { nodesOf, readState } from "../dev-cluster/state.ts";
import type { ImageArchive, Runner, Target } from "./target.ts";

export const builtInName = "quickstart";

/** The cluster of hack/cluster, under a name of its own. */
export function builtInTarget(repository: string, run: Runner, nodes?: "native" | "qemu"): Target {
  const program = join(repository, "hack/cluster");
  const cluster = (command: string) => [program, "--name", builtInName, command];
  return {
    title: "the built-in cluster",
    estimateSeconds: 60,
    up: async () => {
      await run([...cluster("up"), ...(nodes ? ["--nodes", nodes] : [])]);
    },
    loadImages: async (archives) => {
      const missing: ImageArchive[] = [];
      const present = await imagesOnAllNodes(run, cluster);
      for (const archive of archives) {
        if (!present.has(`${archive.name} ${archive.digest}`)) missing.push(archive);
      }
      if (missing.length > 0) await run([...cluster("load-image"), ...missing.map(({ path }) => path)]);
    },
    kubectl: cluster("kubectl"),
    helm: cluster("helm"),
    remove: async () => {
      await run(cluster("down"));
    },
    kubectlHint: "hack/cluster kubectl",
  };
}

/** "name digest" of what every node has. */
async function imagesOnAllNodes(run: Runner, cluster: (command: string) => string[]): Promise<Set<string>> {
  const state = await readState(layoutOf(builtInName));
  const nodes = state ? nodesOf(state) : [];
  const lists = await Promise.all(
    nodes.map(async ({ name }) =>
      parseImageList(await run([...cluster("ssh"), name, "ctr --namespace k8s.io images list"])),
    ),
  );
  const [first = new Set<string>(), ...others] = lists;
  return new Set([...first].filter((image) => others.every((list) => list.has(image))));
}

/** `ctr images list`: REF TYPE DIGEST SIZE PLATFORMS LABELS. */
export function parseImageList(output: string): Set<string> {
  const rows = output
    .split("\n")
    .slice(1)
    .map((line) => line.split(/\s+/));
  return new Set(rows.flatMap(([name, , digest]) => (name && digest ? [`${name} ${digest}`] : [])));
}
