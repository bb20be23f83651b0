import { spawn } from "node:child_process";

/** How a command ended; both outputs as text. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly input?: string;
  /** The command is killed then, and the call throws. */
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  /** Shows both outputs while the command runs. */
  readonly echo?: boolean;
}

/** A command that failed, with all that it said. */
export class CommandError extends Error {
  readonly result: CommandResult;
  constructor(argv: readonly string[], result: CommandResult) {
    super(`${argv.join(" ")} ended with ${result.code}:\n${result.stdout}${result.stderr}`);
    this.name = "CommandError";
    this.result = result;
  }
}

/** Runs a command to its end, whatever its exit code. Throws only where it cannot start or takes too long. */
export function tryCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [command = "", ...args] = argv;
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  const child = spawn(command, args, { env: options.env ?? process.env, stdio: ["pipe", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  const timeoutMs = options.timeoutMs ?? 60_000;
  const timer = setTimeout(() => {
    child.kill("SIGKILL");
    reject(new Error(`${argv.join(" ")} did not end within ${timeoutMs} ms:\n${stdout}${stderr}`));
  }, timeoutMs);
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    if (options.echo) process.stdout.write(text);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    if (options.echo) process.stderr.write(text);
  });
  child.stdin.on("error", () => undefined); // a command may end without reading its input
  child.stdin.end(options.input ?? "");
  child.on("error", (error) => {
    clearTimeout(timer);
    reject(error);
  });
  child.on("close", (code) => {
    clearTimeout(timer);
    resolve({ code: code ?? 128, stdout, stderr });
  });
  return promise;
}

/** Runs a command and answers its standard output; throws CommandError when it fails. */
export async function command(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await tryCommand(argv, options);
  if (result.code !== 0) throw new CommandError(argv, result);
  return result.stdout;
}
