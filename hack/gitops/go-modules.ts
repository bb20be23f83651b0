import { cp, mkdir } from "node:fs/promises";
import { findGo } from "../dev-cluster/tools/go.ts";
import { type RunOptions, run } from "../lib/step.ts";

export type Go = (args: readonly string[], cwd: string) => Promise<string>;

/** `toolchain`: the version of Go that compiles; the machine's go fetches it as it does a module. */
export async function goFor(logFile: string, toolchain = "local"): Promise<Go> {
  const program = await findGo();
  const env = { GOTOOLCHAIN: toolchain, GOFLAGS: "-mod=readonly", GOWORK: "off", CGO_ENABLED: "0" };
  const advice = "check that the Go module proxy can be reached (GOPROXY), then run this again";
  return (args, cwd) => run([program, ...args], { cwd, env, logFile, advice } satisfies RunOptions);
}

/** A module's source where it can be written to. */
export async function copyModule(go: Go, module: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const { Dir } = JSON.parse(await go(["mod", "download", "-json", module], target)) as { Dir: string };
  await cp(Dir, target, { recursive: true });
  await run(["chmod", "-R", "u+w", target]);
}
