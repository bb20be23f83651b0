import { createRequire } from "node:module";
import { join } from "node:path";
import { bundle, copyInto, repository } from "./bundle.ts";

/** dist/operator: the bundle, koffi for the node agent, and the kubelet's device plugin protocol. */
export async function bundleOperator(): Promise<void> {
  await bundle("operator/src/main.ts", "dist/operator/operator.js");
  const koffi = createRequire(import.meta.url).resolve("@koromix/koffi-linux-x64/linux_x64/koffi.node");
  copyInto(koffi, "dist/operator/koffi.node");
  copyInto(join(repository, "operator/src/node/device-plugin/deviceplugin.proto"), "dist/operator/deviceplugin.proto");
}
