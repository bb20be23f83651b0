import type { ImageArchive, Runner, Target } from "./target.ts";

/** An existing cluster. Images get to it by the tool that made it, by `loadCommand`, or have to be there already. */
export function contextTarget(context: string, run: Runner, loadCommand?: string): Target {
  const loader = loadCommand ? ["sh", "-c", loadCommand, "sh"] : loaderOf(context);
  return {
    title: `the cluster of context ${context}`,
    estimateSeconds: 1,
    up: async () => {
      await run(["kubectl", "--context", context, "version"]);
    },
    loadImages: async (archives: readonly ImageArchive[]) => {
      if (!loader) return;
      for (const { path } of archives) await run([...loader, path]);
    },
    kubectl: ["kubectl", "--context", context],
    helm: ["helm", "--kube-context", context],
    kubectlHint: `kubectl --context ${context}`,
  };
}

/** Development clusters are known by how they name their contexts. */
function loaderOf(context: string): string[] | undefined {
  const [, tool, name] = /^(kind|k3d)-(.+)$/.exec(context) ?? [];
  if (tool === "kind" && name) return ["kind", "load", "image-archive", "--name", name];
  if (tool === "k3d" && name) return ["k3d", "image", "import", "--cluster", name];
  if (context === "minikube") return ["minikube", "image", "load"];
  return undefined;
}
