import type { Cluster } from "../cluster/cluster.ts";
import { diagnose, type Finding } from "../doctor/checks.ts";
import { details } from "../doctor/details.ts";
import { readFacts } from "../doctor/facts.ts";
import type { Environment } from "../environment.ts";
import { type ExitCode, exitCodes } from "../exit-codes.ts";
import { printValue } from "../output/objects.ts";
import { cliVersion } from "../version.ts";

/** `doctor`: looks at what Typevisor needs of the cluster. Answers the exit code. */
export async function doctor(
  cluster: Cluster,
  options: { readonly output?: string },
  environment: Environment,
): Promise<ExitCode> {
  const facts = await readFacts(cluster);
  const findings = diagnose(facts, cliVersion);
  if (options.output === undefined) environment.stdout.write(report(findings, cluster));
  else if (options.output === "wide") environment.stdout.write(report(findings, cluster) + details(facts));
  else printValue(environment, findings, options.output);
  return findings.some(({ verdict }) => verdict === "fail") ? exitCodes.unhealthy : exitCodes.ok;
}

/** A line for each check, its advice below it, and a sentence at the end. */
export function report(findings: readonly Finding[], { context, server }: Pick<Cluster, "context" | "server">): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.flatMap(({ check, verdict, message, advice }) => [
    `${verdict.padEnd(7)}  ${check.padEnd(width)}  ${message}`,
    ...(advice === undefined ? [] : [`${" ".repeat(7 + 2 + width + 2)}-> ${advice}`]),
  ]);
  const count = (wanted: Finding["verdict"]) => findings.filter(({ verdict }) => verdict === wanted).length;
  const failed = count("fail");
  const summary =
    failed === 0 ? "Nothing keeps machines from running" : `${failed} of ${findings.length} checks failed`;
  const rest = [`${count("warn")} to look at`, `${count("unknown")} unknown`].filter((part) => !part.startsWith("0 "));
  return `Cluster ${context} (${server})\n\n${lines.join("\n")}\n\n${[summary, ...rest].join(", ")}.\n`;
}
