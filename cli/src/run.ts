import { CommanderError } from "commander";
import { type Environment, say } from "./environment.ts";
import { exitCodes } from "./exit-codes.ts";
import { createProgram } from "./program.ts";

/** Runs one command line (without program names); answers the exit code. */
export async function run(args: readonly string[], environment: Environment): Promise<number> {
  let exitCode: number = exitCodes.ok;
  const program = createProgram({
    environment,
    ended: (code) => {
      exitCode = code;
    },
  });
  if (args.length === 0) {
    program.outputHelp();
    return exitCodes.usage;
  }
  try {
    await program.parseAsync([...args], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    }
    const { explain } = await import("./failure.ts");
    const { message, exitCode: code } = explain(error);
    say(environment, `error: ${message}`);
    return code;
  }
}
