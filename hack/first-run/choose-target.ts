import { judge, measure } from "../dev-cluster/kvm/verdict.ts";
import { say } from "../lib/step.ts";
import { builtInTarget } from "./built-in-target.ts";
import { contextTarget } from "./context-target.ts";
import { kindTarget } from "./kind-target.ts";
import type { Options } from "./options.ts";
import type { Runner, Target } from "./target.ts";

/** Which cluster to work on, by what was asked and by what this machine has; says why. */
export async function chooseTarget(options: Options, repository: string, run: Runner): Promise<Target> {
  if (options.context !== undefined) return contextTarget(options.context, run, options.loadCommand);
  if (options.nodes !== undefined) return builtInTarget(repository, run, options.nodes);
  const missing = await missingForKind(run);
  if (missing === undefined) return kindTarget(run);
  say(`Cluster: the built-in one, since ${missing}`);
  return builtInTarget(repository, run);
}

/** What keeps us from using kind: undefined when nothing does. */
async function missingForKind(run: Runner): Promise<string | undefined> {
  const works = (...argv: string[]) =>
    run(argv)
      .then(() => true)
      .catch(() => false);
  if (!(await works("docker", "info")) && !(await works("podman", "info"))) return "no container engine runs";
  for (const [program, argument] of [
    ["kind", "version"],
    ["kubectl", "version --client"],
    ["helm", "version"],
  ] as const) {
    if (!(await works(program, ...argument.split(" ")))) return `${program} is not installed`;
  }
  const verdict = judge(await measure());
  return verdict.kvmFit ? undefined : verdict.reason;
}
