/**
 * A cloud image from a web server to a machine that keeps its disk, on a cluster of node VMs that it makes and removes:
 * imported over a connection that breaks, booted by UEFI, cloud-init, restart, SIGKILL of the launcher while the guest boots,
 * the node switched off. A line for each thing proven; the first that is not ends it, and leaves the cluster for a look.
 * Half an hour where KVM is emulated, most of it two boots: too long for a test. Builds what it needs.
 *
 *   node hack/cloud-image/main.ts [--name cloud-image] [--keep] [--from NUMBER]
 *
 * --name: of the cluster. --keep: leaves it where all is proven, too; it is used again then. --from: goes on with the proof
 * of that number, above 1, on the machine that a run before has left.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { installOnNodes, removeNodes } from "../../e2e/nodes/qemu-cluster.ts";
import { openTestCluster } from "../../e2e/support/cluster.ts";
import { layoutOf } from "../dev-cluster/layout.ts";
import { formatSeconds, run, say } from "../lib/step.ts";
import { FileServer } from "./file-server.ts";
import { cloudImageFile } from "./image-file.ts";
import { Keeper } from "./keeper.ts";
import { proofs } from "./proofs.ts";

const { values } = parseArgs({
  options: {
    name: { type: "string", default: "cloud-image" },
    keep: { type: "boolean", default: false },
    from: { type: "string", default: "1" },
  },
});
const first = Number(values.from);
if (!(first >= 1 && first <= proofs.length)) throw new RangeError(`--from 1 to ${proofs.length}`);
const root = join(import.meta.dirname, "..", "..");
/** Of two. The operator has the other one for itself: a guest's boot takes all that an emulated processor has. */
const [operatorNode, guestNode] = ["node1", "node2"];

async function prepare(): Promise<Keeper> {
  if (first > 1) return await Keeper.find(await place());
  await run([join(root, "hack/build")], { timeoutMs: 600_000, echo: true });
  const images = ["launcher", "operator"];
  const build = [join(root, "hack/images/build"), ...images, "guest-debian-cloud"];
  await run(build, { timeoutMs: 30 * 60_000, echo: true });
  const selector = `operator.nodeSelector.kubernetes\\.io/hostname=${operatorNode}`;
  await installOnNodes({ name: values.name, images, set: [selector] });
  return await Keeper.make(await place());
}

async function serve(): Promise<FileServer> {
  const image = await cloudImageFile();
  const server = await FileServer.start(layoutOf(values.name), image.path);
  await keeper.apply({ url: server.url, sha256: image.sha256 });
  return server;
}

async function place() {
  return { clusterName: values.name, cluster: await openTestCluster(values.name), node: guestNode };
}

using keeper = await prepare();
using server = first > 1 ? undefined : await serve();
const startedMs = performance.now();
for (const [index, { title, prove }] of proofs.entries()) {
  if (index + 1 < first) continue;
  const beganMs = performance.now();
  const time = () => formatSeconds((performance.now() - beganMs) / 1000);
  try {
    await prove(keeper, () => server?.requests ?? []);
  } catch (error) {
    say(`${index + 1} NOT proven after ${time()}: ${title}`);
    say(`Next: look with 'hack/cluster --name ${values.name} kubectl --namespace ${keeper.namespace} get all'`);
    say(`      go on with '--from ${index + 1}', or remove it all with 'hack/cluster --name ${values.name} down'`);
    throw error;
  }
  process.stdout.write(`${index + 1} proven in ${time()}: ${title}\n`);
}
const total = formatSeconds((performance.now() - startedMs) / 1000);
process.stdout.write(`all proven in ${total}; guests that fell silent and were started again: ${keeper.extraStarts}\n`);
if (!values.keep) await removeNodes(values.name);
