import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { basename } from "node:path";
import { tail } from "../lib/step.ts";

export interface ProgramSpec {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly logFile: string;
  /** What it is told that it was called as. */
  readonly calledAs?: string;
}

/** A program on this machine that ends with its `using`. */
export class Program implements AsyncDisposable {
  readonly #spec: ProgramSpec;
  readonly #child;

  private constructor(spec: ProgramSpec) {
    const log = openSync(spec.logFile, "w");
    this.#spec = spec;
    this.#child = spawn(spec.program, spec.args, {
      env: { ...process.env, ...spec.env },
      stdio: ["ignore", log, log],
      argv0: spec.calledAs ?? spec.program,
    });
    closeSync(log);
  }

  static async start(spec: ProgramSpec): Promise<Program> {
    const started = new Program(spec);
    await once(started.#child, "spawn");
    return started;
  }

  /** Throws, with the end of its log, if it has ended. */
  async mustRun(): Promise<void> {
    if (!this.#hasEnded) return;
    const { program, calledAs = program, logFile } = this.#spec;
    throw new Error(`${basename(calledAs)} ended:\n${await tail(logFile)}\nWhole log: ${logFile}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#hasEnded) return;
    const ended = once(this.#child, "exit");
    this.#child.kill();
    await ended;
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}
