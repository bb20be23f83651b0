import { join } from "node:path";
import { say } from "../lib/step.ts";
import { chooseTarget } from "./choose-target.ts";
import { diagnose } from "./diagnosis.ts";
import { parseOptions, UsageError, usage } from "./options.ts";
import { bringUp, ClusterStepFailed, takeDown } from "./quickstart.ts";
import { runner } from "./runner.ts";
import type { Target } from "./target.ts";

const repository = join(import.meta.dirname, "..", "..");
const run = runner(repository);

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(usage);
    return 0;
  }
  const target = await chooseTarget(options, repository, run);
  if (options.down) {
    await takeDown(target, repository, run);
    return 0;
  }
  const startedMs = performance.now();
  try {
    await bringUp(target, repository, run);
  } catch (error) {
    return explain(error, target);
  }
  say(`Done in ${Math.round((performance.now() - startedMs) / 1000)} s.`);
  return 0;
}

async function explain(error: unknown, target: Target): Promise<number> {
  say(`\n${error instanceof Error ? error.message : String(error)}`);
  if (error instanceof ClusterStepFailed) {
    say(`\nWhat the cluster says:\n${await diagnose(target, run)}`);
    say(`\nNext: '${target.kubectlHint} describe vm hello' and 'hack/quickstart' again; or start over with --down`);
  } else {
    say("\nNext: fix what is said above and run 'hack/quickstart' again; it goes on where it stopped");
  }
  return 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  if (error instanceof UsageError) process.stderr.write(`\n${usage}`);
  process.exitCode = error instanceof UsageError ? 64 : 1;
}
