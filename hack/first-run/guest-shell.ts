import { spawn } from "node:child_process";
import { ConsoleUser } from "../lib/guest-console.ts";
import type { Target } from "./target.ts";

export interface GuestAnswer {
  /** What the guest said while it booted, as far as the console remembers. */
  readonly bootLines: readonly string[];
  readonly output: string;
}

/** On an emulated node a kernel that prints its whole boot takes a minute, and longer where the machine is busy. */
const bootMs = 600_000;

/** Joins a machine's console as a person would, with `kubectl exec`, and runs one line in the guest's shell. */
export async function askGuest(target: Target, podName: string, prompt: RegExp, line: string): Promise<GuestAnswer> {
  const [program = "", ...args] = [...target.kubectl, "exec", "--stdin", podName, "--", "console"];
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    complaints += chunk;
  });
  const console = new ConsoleUser(child.stdout, child.stdin);
  try {
    await console.see(prompt, bootMs);
    const bootLines = console.text.replaceAll("\r", "").split("\n");
    const output = await console.shell(line, 120_000);
    return { bootLines, output };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(complaints ? `${why}\nkubectl exec said: ${complaints}` : why);
  } finally {
    console.close();
    child.kill();
  }
}
