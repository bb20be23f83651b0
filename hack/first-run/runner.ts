import { spawn } from "node:child_process";
import { CommandError } from "../lib/step.ts";
import type { Runner } from "./target.ts";

/** How a command's standard error is treated: shown as it comes, or kept for the error alone. */
type Noise = "shown" | "kept";

/**
 * Runs a command and gives its standard output. The commands of this repository tell of their progress on standard
 * error, so that is passed on; of others, and of those that they only lend, a failure's is.
 */
export function runner(repository: string): Runner {
  return (argv, input) => {
    const lent = argv.some((word) => word === "kubectl" || word === "helm" || word === "ssh");
    return execute(argv, argv[0]?.startsWith(repository) && !lent ? "shown" : "kept", input);
  };
}

function execute(argv: readonly string[], noise: Noise, input?: string): Promise<string> {
  const [program = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    const out: Buffer[] = [];
    const all: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => {
      out.push(chunk);
      all.push(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      all.push(chunk);
      if (noise === "shown") process.stderr.write(chunk);
    });
    child.stdin.on("error", () => {});
    child.stdin.end(input);
    child.on("error", (error) => reject(new CommandError(argv, null, error.message)));
    child.on("close", (code) => {
      if (code === 0) resolve(Buffer.concat(out).toString());
      else reject(new CommandError(argv, code, Buffer.concat(all).toString()));
    });
  });
}
