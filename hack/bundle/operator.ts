import { createRequire } from "node:module";
import { join } from "node:path";
import type { Plugin } from "esbuild";
import { bundle, copyInto, repository } from "./bundle.ts";

/** Modes are bundles of their own: the node agent must not pay for reading the Kubernetes client's 18 MB. */
const modes = ["controllers", "node"] as const;

const modesStayOutside: Plugin = {
  name: "modes-stay-outside",
  setup: (build) => {
    for (const mode of modes)
      build.onResolve({ filter: new RegExp(`^\\./${mode}/command\\.ts$`) }, ({ kind }) =>
        kind === "dynamic-import" ? { path: `./${mode}.js`, external: true } : undefined,
      );
  },
};

/** dist/operator: a bundle a mode, koffi for the node agent, and the kubelet's device plugin protocol. */
export async function bundleOperator(): Promise<void> {
  await bundle("operator/src/main.ts", "dist/operator/operator.js", { plugins: [modesStayOutside] });
  for (const mode of modes) await bundle(`operator/src/${mode}/command.ts`, `dist/operator/${mode}.js`);
  const koffi = createRequire(import.meta.url).resolve("@koromix/koffi-linux-x64/linux_x64/koffi.node");
  copyInto(koffi, "dist/operator/koffi.node");
  copyInto(join(repository, "operator/src/node/device-plugin/deviceplugin.proto"), "dist/operator/deviceplugin.proto");
}
