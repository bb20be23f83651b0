import { spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { say } from "../lib/step.ts";
import { type CommandLine, parseCommandLine, UsageError, usage } from "./args.ts";
import { kubectl } from "./control-plane.ts";
import { down } from "./down.ts";
import { judge, measure } from "./kvm/verdict.ts";
import { type Layout, layoutOf } from "./layout.ts";
import { copyToNode, loadImage, nodeCommand } from "./nodes.ts";
import { isProcessRunning, logFileOf, processNames } from "./processes.ts";
import { type ClusterState, clusterNames, currentName, nodesOf, readState } from "./state.ts";
import { ensureTools } from "./tools/tools.ts";
import { buildPrograms, up } from "./up.ts";

async function main(): Promise<number> {
  const options = parseCommandLine(process.argv.slice(2), process.env);
  switch (options.command) {
    case "help":
      process.stdout.write(usage);
      return 0;
    case "measure-kvm":
      console.log(judge(await measure()).reason);
      return 0;
    case "up":
      await up(options);
      return 0;
    case "build":
      await buildPrograms();
      return 0;
    case "down":
      await down(layoutOf(await nameOf(options)));
      return 0;
    default:
      return withCluster(options);
  }
}

async function nameOf(options: CommandLine): Promise<string> {
  const name = options.name ?? (options.flavour ? `dev-${options.flavour}` : await currentName());
  if (name !== undefined) return name;
  const names = await clusterNames();
  throw new UsageError(
    names.length > 0
      ? `there are several clusters: ${names.join(", ")}. Next: say which with --name`
      : "there is no cluster. Next: hack/cluster up",
  );
}

async function withCluster(options: CommandLine): Promise<number> {
  const layout = layoutOf(await nameOf(options));
  const state = await readState(layout);
  if (!state) {
    const others = await clusterNames();
    const known = others.length > 0 ? ` (there are: ${others.join(", ")})` : "";
    throw new UsageError(`there is no cluster '${layout.name}'${known}. Next: hack/cluster up --name ${layout.name}`);
  }
  const { rest } = options;
  switch (options.command) {
    case "kubeconfig":
      console.log(layout.kubeconfig);
      return 0;
    case "kubectl":
      return foreground([join((await ensureTools()).kube, "kubectl"), ...rest], { KUBECONFIG: layout.kubeconfig });
    case "helm":
      return foreground([join((await ensureTools()).helm, "helm"), ...rest], { KUBECONFIG: layout.kubeconfig });
    case "load-image":
      if (rest.length === 0) throw new UsageError("load-image needs at least one OCI archive (a .tar)");
      for (const archive of rest) await loadImage(layout, state, resolve(archive));
      return 0;
    case "logs":
      return logs(layout, rest);
    case "ssh":
      return foreground(await nodeCommand(layout, state, rest[0], rest.slice(1)));
    case "copy":
      await copyToNode(layout, state, rest);
      return 0;
    default:
      return status(layout, state);
  }
}

/** Runs a command with our terminal and gives its exit code. */
function foreground(command: readonly string[], env: Record<string, string> = {}): Promise<number> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: "inherit", env: { ...process.env, ...env } });
  // The terminal sends these to the child as well; it decides when to end.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  return new Promise((done, reject) => {
    child.on("error", reject);
    child.on("close", (code) => done(code ?? 1));
  });
}

async function logs(layout: Layout, [program]: readonly string[]): Promise<number> {
  if (program) {
    process.stdout.write(await readFile(logFileOf(layout, program), "utf8"));
    return 0;
  }
  for (const file of (await readdir(layout.logDir)).sort()) console.log(file.replace(/\.log$/, ""));
  return 0;
}

async function status(layout: Layout, state: ClusterState): Promise<number> {
  const nodes = nodesOf(state).map((node) => node.name);
  console.log(`cluster ${layout.name}: ${state.flavour}, ${nodes.join(" ")}, https://127.0.0.1:${state.apiPort}`);
  let allRun = true;
  for (const name of (await processNames(layout)).sort()) {
    const runs = await isProcessRunning(layout, name);
    allRun &&= runs;
    console.log(`  ${runs ? "runs " : "ENDED"}  ${name}`);
  }
  const table = await kubectl(layout, await ensureTools(), ["get", "nodes", "-o=wide", "--request-timeout=5s"]).catch(
    (error: Error) => error.message,
  );
  console.log(table.trimEnd());
  if (!allRun) say("Next: hack/cluster up");
  return allRun ? 0 : 1;
}

// Whoever reads us, such as `head`, has seen enough.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
try {
  process.exitCode = await main();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  if (error instanceof UsageError) say("See: hack/cluster --help");
  process.exitCode = error instanceof UsageError ? 64 : 1;
}
