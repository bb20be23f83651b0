import { createRequire } from "node:module";
import { join } from "node:path";
import type { Plugin } from "esbuild";
import { bundle, copyInto, repository } from "./bundle.ts";
import { leanKubernetesClient } from "./lean-kubernetes-client.ts";

/**
 * Bundles of their own, by the import that loads each: the node agent must not pay for the controllers, nor the
 * controllers for the Kubernetes client, which only a kubeconfig needs.
 */
const parts = {
  controllers: { entry: "operator/src/controllers/command.ts", import: /^\.\/controllers\/command\.ts$/ },
  node: { entry: "operator/src/node/command.ts", import: /^\.\/node\/command\.ts$/ },
  kubeconfig: { entry: "operator/src/runtime/kubeconfig.ts", import: /\/runtime\/kubeconfig\.ts$/ },
} as const;

const partsStayOutside: Plugin = {
  name: "parts-stay-outside",
  setup: (build) => {
    for (const [name, part] of Object.entries(parts))
      build.onResolve({ filter: part.import }, ({ kind }) =>
        kind === "dynamic-import" ? { path: `./${name}.js`, external: true } : undefined,
      );
  },
};

/** dist/operator: its bundles, koffi for the node agent, and the kubelet's device plugin protocol. */
export async function bundleOperator(): Promise<void> {
  await bundle("operator/src/main.ts", "dist/operator/operator.js", { plugins: [partsStayOutside] });
  for (const [name, { entry }] of Object.entries(parts))
    await bundle(entry, `dist/operator/${name}.js`, { plugins: [partsStayOutside, leanKubernetesClient] });
  const koffi = createRequire(import.meta.url).resolve("@koromix/koffi-linux-x64/linux_x64/koffi.node");
  copyInto(koffi, "dist/operator/koffi.node");
  copyInto(join(repository, "operator/src/node/device-plugin/deviceplugin.proto"), "dist/operator/deviceplugin.proto");
}
