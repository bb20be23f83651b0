import { join } from "node:path";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { run } from "../../hack/lib/step.ts";
import { openTestCluster, RELEASE, type TestCluster } from "../support/cluster.ts";
import { installArguments, testImages } from "../support/install.ts";

const root = join(import.meta.dirname, "..", "..");
const hackCluster = join(root, "hack/cluster");
const NAME = process.env["TYPEVISOR_E2E_QEMU_CLUSTER"] ?? "e2e-qemu";
const LONG_MS = 30 * 60_000;
/** Until a machine runs: nodes are emulated where this machine's KVM is not fit for Linux. */
export const START_TIMEOUT_MS = 300_000;

/** Brings up a cluster of two node VMs with the product in it: slow, for what needs more than one node. */
export async function openQemuCluster(): Promise<TestCluster> {
  const options = { timeoutMs: LONG_MS, echo: true };
  await run([hackCluster, "up", "--name", NAME, "--nodes", "qemu", "--multus", "--network-policies"], options);
  await run([hackCluster, "load-image", "--name", NAME, ...testImages(root)], options);
  const cluster = await openTestCluster(NAME);
  const chart = join(root, "charts/typevisor");
  const more = ["--set", "operator.replicas=1", "--timeout", "9m"];
  await cluster.helm("upgrade", "--install", RELEASE, chart, ...installArguments, ...more);
  return cluster;
}

/** Removes it, unless TYPEVISOR_KEEP asks to keep it for the next run. */
export async function closeQemuCluster(): Promise<void> {
  if (process.env["TYPEVISOR_KEEP"] === "true") return;
  await run([hackCluster, "down", "--name", NAME], { timeoutMs: 180_000, echo: true });
}

/** The file behind the disk that both nodes have, /dev/vdc. */
export function sharedDiskFile(): string {
  return join(layoutOf(NAME).stateDir, "vms/data-shared.img");
}
