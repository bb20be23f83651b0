import { join } from "node:path";
import { run } from "../../hack/lib/step.ts";
import { CLUSTER_NAME, openTestCluster, RELEASE } from "./cluster.ts";
import { imageFiles, installArguments, testImages } from "./install.ts";

const root = join(import.meta.dirname, "..", "..");
const LONG_MS = 45 * 60_000;
/** TYPEVISOR_E2E_IP_FAMILIES makes another cluster than the usual one of both families. */
const families = process.env["TYPEVISOR_E2E_IP_FAMILIES"];
const familyArguments = families ? ["--ip-families", families] : [];

/** Brings up the native cluster with the product in it; quick where it is up already. */
export default async function setUp(): Promise<void> {
  const cluster = join(root, "hack/cluster");
  const options = { timeoutMs: LONG_MS, echo: true };
  await run([cluster, "up", "--name", CLUSTER_NAME, "--nodes", "native", "--multus", ...familyArguments], options);
  await run([cluster, "load-image", "--name", CLUSTER_NAME, ...imageFiles(testImages)], options);
  const opened = await openTestCluster();
  await opened.helm("upgrade", "--install", RELEASE, join(root, "charts/typevisor"), ...installArguments);
}
