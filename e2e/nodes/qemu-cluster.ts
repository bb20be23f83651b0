import { join } from "node:path";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { run } from "../../hack/lib/step.ts";
import { openTestCluster, RELEASE, type TestCluster } from "../support/cluster.ts";
import { imageFiles, installArguments, testImages } from "../support/install.ts";

const root = join(import.meta.dirname, "..", "..");
const hackCluster = join(root, "hack/cluster");
const NAME = process.env["TYPEVISOR_E2E_QEMU_CLUSTER"] ?? "e2e-qemu";
const LONG_MS = 30 * 60_000;
/** Until a machine runs: nodes are emulated where this machine's KVM is not fit for Linux. */
export const START_TIMEOUT_MS = 300_000;

/** Brings up a cluster of two node VMs with the product in it: slow, for what needs more than one node. */
export function openQemuCluster(): Promise<TestCluster> {
  return installOnNodes({ name: NAME, up: ["--multus", "--network-policies"], images: testImages });
}

export interface NodeClusterOptions {
  readonly name: string;
  /** More for `hack/cluster up`. */
  readonly up?: readonly string[];
  /** Names of images that the nodes get. */
  readonly images: readonly string[];
  /** Values of the chart beside one replica of the operator, as helm's --set takes them. */
  readonly set?: readonly string[];
}

/** Brings up a cluster of two node VMs, or finds it, and installs the product in it. */
export async function installOnNodes({ name, up = [], images, set = [] }: NodeClusterOptions): Promise<TestCluster> {
  const options = { timeoutMs: LONG_MS, echo: true };
  await run([hackCluster, "up", "--name", name, "--nodes", "qemu", ...up], options);
  await run([hackCluster, "load-image", "--name", name, ...imageFiles(images)], options);
  const cluster = await openTestCluster(name);
  const more = ["--set", ["operator.replicas=1", ...set].join(","), "--timeout", "9m"];
  await cluster.helm("upgrade", "--install", RELEASE, join(root, "charts/typevisor"), ...installArguments, ...more);
  return cluster;
}

/** Removes it, unless TYPEVISOR_KEEP asks to keep it for the next run. */
export async function closeQemuCluster(): Promise<void> {
  if (process.env["TYPEVISOR_KEEP"] !== "true") await removeNodes(NAME);
}

export async function removeNodes(name: string): Promise<void> {
  await run([hackCluster, "down", "--name", name], { timeoutMs: 180_000, echo: true });
}

/** The file behind the disk that both nodes have, /dev/vdc. */
export function sharedDiskFile(): string {
  return join(layoutOf(NAME).stateDir, "vms/data-shared.img");
}
