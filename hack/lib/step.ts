import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { finished } from "node:stream/promises";

/** A command that failed, with the end of its log and what to try next. */
export class CommandError extends Error {
  override name = "CommandError";
  readonly command: readonly string[];
  readonly exitCode: number | null;
  readonly logFile: string | undefined;
  /** All that was printed on both outputs. */
  readonly output: string;
  constructor(command: readonly string[], exitCode: number | null, output: string, options: RunOptions = {}) {
    const lines = output.trimEnd().split("\n").slice(-30).join("\n");
    const where = options.logFile ? `\nWhole log: ${options.logFile}` : "";
    const next = options.advice ? `\nNext: ${options.advice}` : "";
    super(`'${options.label ?? command.join(" ")}' failed (${exitCode ?? "killed"}):\n${lines}${where}${next}`);
    this.command = command;
    this.exitCode = exitCode;
    this.logFile = options.logFile;
    this.output = output;
  }
}

export interface RunOptions {
  cwd?: string;
  env?: Readonly<Record<string, string>>;
  input?: string | Uint8Array;
  /** Also written here, so that a long build can be followed. */
  logFile?: string;
  /** What a person should try when it fails. */
  advice?: string;
  /** Stands for the command in an error, where the command itself would not say much. */
  label?: string;
  /** Shows both outputs while the command runs. */
  echo?: boolean;
  /** Ends the command when it takes longer. */
  timeoutMs?: number;
}

/** Runs a command to its end and gives its standard output; rejects with a CommandError if it fails. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const [program = "", ...args] = command;
  if (options.logFile) await mkdir(dirname(options.logFile), { recursive: true });
  const log = options.logFile ? createWriteStream(options.logFile) : undefined;
  const child = spawn(program, args, {
    ...(options.cwd ? { cwd: options.cwd } : {}),
    env: { ...process.env, ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
    ...(options.timeoutMs ? { timeout: options.timeoutMs, killSignal: "SIGKILL" } : {}),
  });
  const stdout: Buffer[] = [];
  const both: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout.push(chunk);
    both.push(chunk);
    log?.write(chunk);
    if (options.echo) process.stdout.write(chunk);
  });
  child.stderr.on("data", (chunk: Buffer) => {
    both.push(chunk);
    log?.write(chunk);
    if (options.echo) process.stderr.write(chunk);
  });
  // A command that does not read its input must not break us: its exit code tells what happened.
  child.stdin.on("error", () => {});
  child.stdin.end(options.input);
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    child.on("error", (error) => reject(new CommandError(command, null, error.message, options)));
    child.on("close", resolve);
  });
  if (log) await finished(log.end());
  if (exitCode !== 0) throw new CommandError(command, exitCode, Buffer.concat(both).toString(), options);
  return Buffer.concat(stdout).toString();
}

/** Like `run`, but says only whether the command succeeded. */
export async function succeeds(command: readonly string[], options: RunOptions = {}): Promise<boolean> {
  return run(command, options).then(
    () => true,
    () => false,
  );
}

/** Says on standard error what is being done, how long it should take, and how long it took. */
export async function step<T>(title: string, estimateSeconds: number, work: () => Promise<T>): Promise<T> {
  const startedMs = performance.now();
  const elapsed = () => ((performance.now() - startedMs) / 1000).toFixed(1);
  const estimate = estimateSeconds >= 10 ? ` (about ${formatSeconds(estimateSeconds)})` : "";
  say(`${title} ...${estimate}`);
  const progress = setInterval(() => say(`${title}: ${elapsed()} s so far${estimate}`), 15_000);
  try {
    const result = await work();
    say(`${title}: done in ${elapsed()} s`);
    return result;
  } catch (error) {
    say(`${title}: failed after ${elapsed()} s`);
    throw error;
  } finally {
    clearInterval(progress);
  }
}

/** One line for the person at the terminal; standard output stays free for results. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** `90` -> `1 min 30 s`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes === 0) return `${whole} s`;
  return whole % 60 === 0 ? `${minutes} min` : `${minutes} min ${whole % 60} s`;
}

export interface WaitOptions {
  /** Completes the sentence "timed out waiting for ...". */
  what: string;
  timeoutMs: number;
  intervalMs?: number;
  /** Read into the error, so that the reason stands beside it. */
  logFile?: string;
}

/** Asks until the answer is neither undefined nor false. */
export async function waitFor<T>(
  ask: () => Promise<T | undefined | false>,
  { what, timeoutMs, intervalMs = 100, logFile }: WaitOptions,
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadlineMs) {
      const log = logFile ? `\n${await tail(logFile)}\nWhole log: ${logFile}` : "";
      throw new Error(`timed out after ${formatSeconds(timeoutMs / 1000)} waiting for ${what}${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}

/** The last lines of a log, or a word on why there are none. */
export async function tail(file: string, lines = 30): Promise<string> {
  const text = await readFile(file, "utf8").catch((error: Error) => error.message);
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}
