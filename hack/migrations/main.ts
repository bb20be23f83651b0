/**
 * Moves a Debian under load from one node to the other and back, again and again, on a cluster of node VMs that it makes
 * and removes. A line for each move; the first that the guest notices ends it, and leaves the cluster for a look. Some
 * minutes a move where KVM is emulated: too long for a test. Builds what it needs.
 *
 *   node hack/migrations/main.ts [--count 100] [--name migrations] [--keep]
 *
 * --name: of the cluster. --keep: leaves it where all is well, too; it is used again then.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { installOnNodes, removeNodes } from "../../e2e/nodes/qemu-cluster.ts";
import { applyVolumes } from "../../e2e/nodes/volumes.ts";
import { median } from "../bench/statistics.ts";
import { chooseAcceleration } from "../dev-cluster/qemu/acceleration.ts";
import { formatSeconds, run, say } from "../lib/step.ts";
import { wrong } from "./load.ts";
import { type Move, Traveller } from "./traveller.ts";

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "100" },
    name: { type: "string", default: "migrations" },
    keep: { type: "boolean", default: false },
  },
});
const count = Number(values.count);
if (!Number.isInteger(count) || count < 1) throw new RangeError("--count 1 or more");
const root = join(import.meta.dirname, "..", "..");
const NAMESPACE = "migrations";
/** The claim of a disk that both nodes have, and its volume. */
const SHARED = "shared";

async function prepare(): Promise<Traveller> {
  await run([join(root, "hack/build")], { timeoutMs: 600_000, echo: true });
  const images = ["launcher", "operator", "toolbox", "guest-debian"];
  await run([join(root, "hack/images/build"), ...images], { timeoutMs: 30 * 60_000, echo: true });
  const cluster = await installOnNodes({ name: values.name, images });
  await cluster.dropNamespace(NAMESPACE);
  await cluster.system.run(["delete", "persistentvolume", SHARED, "--ignore-not-found"]);
  const kubectl = await cluster.namespace(NAMESPACE);
  await applyVolumes(kubectl, [SHARED]);
  return await Traveller.start(kubectl, SHARED);
}

/** Emulated nodes stand still for seconds now and then, and guests' kernels complain of that. */
const judgesWarnings = (await chooseAcceleration()) === "kvm";

const traveller = await prepare();
const moves: (Move & { readonly gapMs: number })[] = [];
let before = await traveller.ask();
for (let i = 1; i <= count; i++) {
  const move = await traveller.move();
  const seen = await traveller.ask();
  const { from, to, tookMs, downtimeMs } = move;
  const story = `${i} of ${count}: ${from} to ${to} in ${formatSeconds(tookMs / 1000)}, stood still for ${downtimeMs ?? "?"} ms`;
  const bad = wrong(before, seen, { judgesWarnings });
  if (bad.length > 0) {
    say(`Next: look with 'hack/cluster --name ${values.name} kubectl --namespace ${NAMESPACE} get all'`);
    say(`      or remove it all with 'hack/cluster --name ${values.name} down'`);
    throw new Error(`${story}; ${bad.join(", ")}: ${JSON.stringify(seen)}`);
  }
  process.stdout.write(`${story}; longest gap in the guest ${seen.longestGapMs} ms\n`);
  moves.push({ ...move, gapMs: seen.longestGapMs });
  before = seen;
}
/** Of those that are known. */
const medianOf = (name: "tookMs" | "downtimeMs" | "gapMs") => median(moves.flatMap((move) => move[name] ?? []));
process.stdout.write(
  `all well after ${count}; medians: ${formatSeconds(medianOf("tookMs") / 1000)} a move, stood still for ` +
    `${medianOf("downtimeMs")} ms, longest gap in the guest ${medianOf("gapMs")} ms; it saw ${JSON.stringify(before)}\n`,
);
if (!values.keep) await removeNodes(values.name);
