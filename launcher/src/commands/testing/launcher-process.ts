import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TerminationMessage } from "../../../api/control.ts";
import type { MachineConfig } from "../../../api/machine-config.ts";
import { until } from "../../testing/until.ts";
import type { GuestScript } from "./scripted-launcher.ts";

const node = join(import.meta.dirname, "../../../../node_modules/.bin/node");

export interface LogLine {
  readonly msg: string;
  readonly reason: string;
  readonly [field: string]: unknown;
}

/** A scripted launcher in a process of its own, with its files in a directory that goes with it. */
export class LauncherProcess implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "launcher-process-"));
  readonly socketPath = join(this.directory, "control.sock");
  readonly #terminationPath = join(this.directory, "termination");
  #child: ChildProcessWithoutNullStreams | undefined;
  #stdout = "";
  stderr = "";

  start(script: GuestScript, changes: Partial<MachineConfig> | string = {}): this {
    const configPath = join(this.directory, "machine.json");
    writeFileSync(
      configPath,
      typeof changes === "string" ? changes : JSON.stringify({ ...this.#config(), ...changes }),
    );
    const launcher = join(import.meta.dirname, "scripted-launcher.ts");
    this.#child = spawn(node, [launcher, configPath, script]);
    this.#child.stdout.on("data", (bytes) => (this.#stdout += bytes));
    this.#child.stderr.on("data", (bytes) => (this.stderr += bytes));
    return this;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get log(): LogLine[] {
    return this.#stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  }

  /** The last word; undefined where there is none. */
  get termination(): TerminationMessage | undefined {
    return existsSync(this.#terminationPath) ? JSON.parse(readFileSync(this.#terminationPath, "utf8")) : undefined;
  }

  /** Names of its threads. */
  get threads(): string[] {
    const tasks = `/proc/${this.#child?.pid}/task`;
    return readdirSync(tasks).map((task) => readFileSync(join(tasks, task, "comm"), "utf8").trim());
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async logged(msg: string): Promise<void> {
    await until(() => this.#stdout.includes(`"msg":"${msg}"`));
  }

  async ready(): Promise<this> {
    await until(() => existsSync(this.socketPath) || this.#child?.exitCode !== null);
    return this;
  }

  /** Exit code, or the signal that ended it. */
  async exit(): Promise<number | NodeJS.Signals> {
    const child = this.#child;
    if (child === undefined) throw new Error("the launcher was not started");
    if (child.exitCode === null && child.signalCode === null) await once(child, "close");
    return child.exitCode ?? child.signalCode ?? -1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal("SIGKILL");
    if (this.#child !== undefined) await this.exit();
    rmSync(this.directory, { recursive: true });
  }

  #config(): MachineConfig {
    return {
      version: 1,
      identity: { name: "web", namespace: "shop", uid: "0f8c1c1a-7c51-4c0e-9f7b-0d9a3a6b2c11" },
      cpu: { count: 1, model: "Host" },
      memory: { sizeBytes: 16 * 1024 * 1024 },
      boot: { imageRoot: "/", kernelPath: "/vmlinuz", commandLine: "" },
      disks: [],
      console: { historyBytes: 65536 },
      control: { socketPath: this.socketPath },
      kvm: { devicePath: "/dev/null" },
      terminationMessagePath: this.#terminationPath,
      powerOffTimeoutMs: 60_000,
      log: { level: "info" },
    };
  }
}
