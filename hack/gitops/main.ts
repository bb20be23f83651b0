/**
 * Has Flux and Argo CD apply a git repository with machines, claims and a Service to the e2e tier's native cluster: healthy
 * when the machines run, in sync with nobody's write to any spec, a change rolled out, a machine that cannot start told of,
 * pruned. Images are to be in dist/images (hack/setup e2e). The first run builds the tools.
 *
 *   node hack/gitops/main.ts [--tool flux|argo]... [--minutes 10]
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openTestCluster } from "../../e2e/support/cluster.ts";
import setUp from "../../e2e/support/global-setup.ts";
import { ensureDebianPackages } from "../lib/debian-packages.ts";
import { say } from "../lib/step.ts";
import { startArgo } from "./argo.ts";
import { startFlux } from "./flux.ts";
import { GitRepository } from "./git-repository.ts";
import { prove } from "./proof.ts";

const tools = new Map([
  ["flux", startFlux],
  ["argo", startArgo],
]);

const { values } = parseArgs({
  options: {
    tool: { type: "string", multiple: true, default: [...tools.keys()] },
    minutes: { type: "string", default: "10" },
  },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new RangeError("--minutes above 0");
const wanted = values.tool.map((name) => {
  const start = tools.get(name);
  if (start === undefined) throw new RangeError(`--tool ${[...tools.keys()].join(" or ")}`);
  return start;
});

await ensureDebianPackages(join(import.meta.dirname, "packages.txt"));
await setUp();
const cluster = await openTestCluster();
/** Side by side: most of the time they wait. */
const proofs = wanted.map(async (start) => {
  await using repository = await GitRepository.open();
  await using tool = await start(cluster);
  say(`log: ${tool.logFile}`);
  await prove(tool, repository, minutes);
});
const failures = (await Promise.allSettled(proofs)).filter((result) => result.status === "rejected");
for (const { reason } of failures) console.error(reason);
if (failures.length > 0) process.exitCode = 1;
