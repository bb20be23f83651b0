import type { Plugin } from "esbuild";

/**
 * The Kubernetes client says of none of its files that they can be left out; its generated API is 16 of its 18 MB, of
 * which a kubeconfig needs next to nothing.
 */
export const leanKubernetesClient: Plugin = {
  name: "lean-kubernetes-client",
  setup: (build) =>
    build.onResolve({ filter: /^\.{1,2}\// }, async ({ path, importer, resolveDir, kind, pluginData }) => {
      if (pluginData === "resolved" || !importer.includes("/@kubernetes/client-node/dist/")) return undefined;
      const resolved = await build.resolve(path, { importer, resolveDir, kind, pluginData: "resolved" });
      return { ...resolved, sideEffects: false };
    }),
};
