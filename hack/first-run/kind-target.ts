import type { Runner, Target } from "./target.ts";

const name = "typevisor";

/** Volumes made of images are behind a gate in the first Kubernetes versions that have them. */
const configuration = `kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
featureGates:
  ImageVolume: true
`;

/** A cluster of kind, whose nodes are containers that share this machine's /dev/kvm. */
export function kindTarget(run: Runner): Target {
  const context = `kind-${name}`;
  return {
    title: "a kind cluster",
    estimateSeconds: 90,
    up: async () => {
      const clusters = await run(["kind", "get", "clusters"]);
      if (clusters.split("\n").includes(name)) await run(["kind", "export", "kubeconfig", "--name", name]);
      else await run(["kind", "create", "cluster", "--name", name, "--wait", "3m", "--config", "-"], configuration);
    },
    loadImages: async (archives) => {
      for (const { path } of archives) await run(["kind", "load", "image-archive", "--name", name, path]);
    },
    kubectl: ["kubectl", "--context", context],
    helm: ["helm", "--kube-context", context],
    remove: async () => {
      await run(["kind", "delete", "cluster", "--name", name]);
    },
    kubectlHint: `kubectl --context ${context}`,
  };
}
