import { join } from "node:path";
import { run } from "../../hack/lib/step.ts";
import { CLUSTER_NAME } from "./cluster.ts";

const root = join(import.meta.dirname, "..", "..");

/** Removes the cluster, unless TYPEVISOR_KEEP asks to keep it for the next run. */
export default async function tearDown(): Promise<void> {
  if (process.env["TYPEVISOR_KEEP"] === "true") return;
  await run([join(root, "hack/cluster"), "down", "--name", CLUSTER_NAME], { timeoutMs: 180_000, echo: true });
}
