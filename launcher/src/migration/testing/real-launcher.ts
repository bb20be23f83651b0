import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { LauncherStatus, TerminationMessage } from "../../../api/control.ts";
import type { MachineConfig } from "../../../api/machine-config.ts";
import { testMachineConfig } from "../../machine/testing/test-machine.ts";
import { until } from "../../testing/until.ts";

const node = join(import.meta.dirname, "../../../../node_modules/.bin/node");
const main = join(import.meta.dirname, "../../main.ts");

/** `launcher run` with the test guest, in a process of its own. Its files are in `directory`, which the test removes. */
export class RealLauncher implements AsyncDisposable {
  readonly directory: string;
  readonly config: MachineConfig;
  /** What the guest printed since the console was attached, or since `ask`. */
  text = "";
  output = "";
  #child: ChildProcess | undefined;
  #console: Duplex | undefined;

  readonly #program: string;

  /** `program` is the launcher's: its source unless a bundle is to be run. */
  constructor(directory: string, changes: Partial<MachineConfig> = {}, program = main) {
    this.#program = program;
    mkdirSync(directory, { recursive: true });
    this.directory = directory;
    const base = testMachineConfig({}, directory);
    this.config = { ...base, terminationMessagePath: join(directory, "termination"), ...changes };
  }

  /** Resolves when its socket is there. */
  async start(...options: string[]): Promise<this> {
    const configPath = join(this.directory, "machine.json");
    writeFileSync(configPath, JSON.stringify(this.config));
    const child = spawn(node, ["--no-warnings", this.#program, "run", configPath, ...options], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (bytes: Buffer) => {
        this.output += bytes;
      });
    await until(() => existsSync(this.config.control.socketPath) || child.exitCode !== null);
    if (child.exitCode !== null) throw new Error(`the launcher ended with ${child.exitCode}: ${this.output}`);
    return this;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** What it has of the system: its open descriptors, by what they are, its threads and its child processes. */
  get possessions(): { descriptors: readonly string[]; threads: number; children: readonly string[] } {
    const at = (path: string) => `/proc/${this.pid}/${path}`;
    const tasks = readdirSync(at("task"));
    return {
      descriptors: readdirSync(at("fd"))
        .map((fd) => kindOf(at(`fd/${fd}`)))
        .sort(),
      threads: tasks.length,
      children: tasks.flatMap((task) =>
        readFileSync(at(`task/${task}/children`), "utf8")
          .split(" ")
          .filter(Boolean),
      ),
    };
  }

  /** Answers the status code too. */
  async call(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ status: number; value: LauncherStatus & { error?: { message: string } } }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; value: never }>();
    const ask = request({ socketPath: this.config.control.socketPath, method, path, agent: false }, (response) => {
      let text = "";
      response.on("data", (bytes: Buffer) => {
        text += bytes;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, value: JSON.parse(text) as never }));
    });
    ask.on("error", reject);
    ask.end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  }

  async status(): Promise<LauncherStatus> {
    return (await this.call("GET", "/v1/status")).value;
  }

  /** Joins the console, with what was printed before. */
  async attach(): Promise<this> {
    const path = "/v1/console?access=write&history=true&port=serial";
    const headers = { Connection: "Upgrade", Upgrade: "typevisor-console" };
    const ask = request({ socketPath: this.config.control.socketPath, path, headers, agent: false });
    ask.end();
    const [, socket, head] = (await once(ask, "upgrade")) as [unknown, Duplex, Buffer];
    this.#console = socket;
    this.text = head.toString("latin1");
    socket.on("data", (bytes: Buffer) => {
      this.text += bytes.toString("latin1");
    });
    socket.on("error", () => {});
    return this;
  }

  /** Types a command, and resolves with all that was printed since once that has `answer`. */
  async ask(command: string, answer: string | RegExp): Promise<string> {
    this.text = "";
    this.#console?.write(`${command}\n`);
    await this.said(answer);
    return this.text;
  }

  async said(text: string | RegExp): Promise<void> {
    const isThere = () => (typeof text === "string" ? this.text.includes(text) : text.test(this.text));
    await until(() => isThere() || this.#child?.exitCode !== null).catch(() => {});
    if (!isThere()) throw new Error(`waited for ${text}: ${JSON.stringify(this.text)}\n${this.output}`);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** How it ended. */
  async ended(): Promise<{ exitCode: number | null; termination: TerminationMessage | undefined }> {
    const child = this.#child;
    if (child && child.exitCode === null && child.signalCode === null) await once(child, "exit");
    const path = this.config.terminationMessagePath ?? "";
    const termination = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as TerminationMessage) : undefined;
    return { exitCode: child?.exitCode ?? null, termination };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#console?.destroy();
    this.signal("SIGKILL");
    if (this.#child) await this.ended();
  }
}

/** What a descriptor is of, without the number of the one that it is; "" where it is gone by now. */
function kindOf(link: string): string {
  try {
    return readlinkSync(link).replace(/:\[\d+\]$/, "");
  } catch {
    return "";
  }
}
