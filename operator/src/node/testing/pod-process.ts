import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { AgentAnswer, AgentWant } from "../../../../launcher/api/agent.ts";

const node = join(import.meta.dirname, "../../../../node_modules/.bin/node");

/** A process in a control group of its own, as the container of a pod has one. Needs root and a cgroup file system. */
export class PodProcess implements AsyncDisposable {
  /** Path of the kubepods group's parent, as --cgroup-root would name it. */
  static readonly cgroupRoot = `/typevisor-test-${process.pid}`;
  readonly #child: ChildProcess;
  readonly #directories: readonly string[];
  readonly #answers: AsyncIterator<string>;

  private constructor(child: ChildProcess, directories: readonly string[]) {
    this.#child = child;
    this.#directories = directories;
    if (child.stdout === null) throw new Error("the process was started without a pipe");
    this.#answers = createInterface(child.stdout)[Symbol.asyncIterator]();
  }

  /** Starts it in `groups` below the cgroup root, e.g. ["kubepods", "burstable", "podUID", "CONTAINER"]. */
  static async start(groups: readonly string[]): Promise<PodProcess> {
    const mount = cgroupMount();
    const directories: string[] = [];
    let directory = join(mount, PodProcess.cgroupRoot);
    for (const group of ["", ...groups]) {
      directory = join(directory, group);
      mkdirSync(directory, { recursive: true });
      directories.unshift(directory);
    }
    const child = spawn(node, [join(import.meta.dirname, "asking-process.ts")], { stdio: ["pipe", "pipe", "inherit"] });
    await once(child, "spawn");
    writeFileSync(join(directory, "cgroup.procs"), String(child.pid));
    return new PodProcess(child, directories);
  }

  /** Its answer, and what its descriptors lead to. */
  async ask(socketPath: string, want: readonly AgentWant[]): Promise<{ answer: AgentAnswer; targets: string[] }> {
    this.#child.stdin?.write(`${JSON.stringify({ socketPath, want })}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Error("the process has ended");
    return JSON.parse(value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
    for (const directory of this.#directories) rmdirSync(directory);
  }
}

/** Where a cgroup hierarchy is mounted: that of version 2, or where it is not, any of version 1. */
function cgroupMount(): string {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => ({ path: line.split(" ")[4] ?? "", type: line.split(" - ")[1]?.split(" ", 1)[0] }));
  const found =
    mounts.find(({ type }) => type === "cgroup2") ??
    mounts.find(({ type, path }) => type === "cgroup" && path.endsWith("pids"));
  if (found === undefined) throw new Error("no cgroup file system is mounted; mount one at /sys/fs/cgroup");
  return found.path;
}
