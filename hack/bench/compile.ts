import { execFileSync } from "node:child_process";
import { basename, join } from "node:path";

/** Compiles a program of hack/bench, e.g. "disks/deny-io-uring", and answers its path in `directory`. */
export function compile(name: string, directory: string): string {
  const program = join(directory, basename(name));
  execFileSync("cc", ["-O2", "-o", program, join(import.meta.dirname, `${name}.c`)]);
  return program;
}

/** How many ticks the time stamp counter makes in a second. */
export function ticksPerSecond(directory: string): number {
  return Number(execFileSync(compile("tsc-frequency", directory), { encoding: "utf8" }));
}
