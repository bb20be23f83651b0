import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";

const root = join(import.meta.dirname, "..", "..");

/** Runs commands in the repository and shows what they print; behind a name where several tiers print at once. */
export class Output {
  readonly #prefix: string | null;
  /** @param name null: commands have our own outputs, a terminal where there is one. */
  constructor(name: string | null) {
    this.#prefix = name === null ? null : `${name} | `;
  }

  say(line: string): void {
    console.log(`${this.#prefix ?? ""}${line}`);
  }

  /** Answers its exit code: 1 where a signal ended it, that of `abort` too, or it could not start. */
  run([command = "", ...args]: readonly string[], abort?: AbortSignal): Promise<number> {
    const output = this.#prefix === null ? "inherit" : "pipe";
    const child = spawn(command, args, {
      cwd: root,
      stdio: ["ignore", output, output],
      ...(abort && { signal: abort }),
    });
    this.#show(child);
    return new Promise((resolve) => {
      child.on("error", (error) => {
        this.say(`${command}: ${error.message}`);
        resolve(1);
      });
      child.on("exit", (code) => {
        const end = () => resolve(code ?? 1);
        child.on("close", end);
        // Something that it has left behind may hold its outputs.
        setTimeout(end, 5000).unref();
      });
    });
  }

  /** Begins what a tier does again later: that one waits for it, does what is left, and tells what is wrong. */
  start([command = "", ...args]: readonly string[]): void {
    this.say(`ahead: ${[command, ...args].join(" ")}`);
    const child = spawn(command, args, { cwd: root, stdio: "ignore" });
    child.on("error", () => {});
    child.unref();
  }

  #show(child: ChildProcess): void {
    for (const stream of [child.stdout, child.stderr]) {
      if (stream) createInterface({ input: stream }).on("line", (line) => this.say(line));
    }
  }
}
