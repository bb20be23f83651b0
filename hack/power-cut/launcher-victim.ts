import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { LauncherClient } from "../../e2e/linux/launcher-client.ts";
import type { DiskSource, MachineConfig } from "../../launcher/api/machine-config.ts";
import { buildTestGuest } from "../../launcher/src/machine/testing/test-guest.ts";
import { ConsoleUser } from "../lib/guest-console.ts";
import { waitFor } from "../lib/step.ts";
import type { Victim } from "./cut-power.ts";

const root = join(import.meta.dirname, "..", "..");
export const DISK_BYTES = 4 << 20;
const START_DEADLINE_MS = 60_000;

/** What a claim's disk stands on. */
export type DiskKind = "Filesystem" | "Block";

/** A launcher on this machine, with a disk as a claim of that kind has it. Needs root for loop devices. */
export class LauncherVictim implements Victim, AsyncDisposable {
  readonly name = "a launcher";
  readonly disks: readonly [DiskKind];
  readonly #directory = mkdtempSync(join(tmpdir(), "power-cut-"));
  readonly #source: DiskSource;
  /** Where the disk's bytes are. */
  readonly #diskPath: string;
  readonly #cleanup = new DisposableStack();
  #child: ChildProcess | undefined;
  #log = "";

  constructor(kind: DiskKind) {
    this.disks = [kind];
    this.#cleanup.defer(() => rmSync(this.#directory, { recursive: true }));
    if (kind === "Filesystem") {
      const path = join(this.#directory, "claim");
      mkdirSync(path);
      this.#source = { kind: "directory", path, sizeBytes: DISK_BYTES };
      this.#diskPath = join(path, "disk.img");
    } else {
      const path = loopDevice(join(this.#directory, "backing"), this.#cleanup);
      this.#source = { kind: "raw", path };
      this.#diskPath = path;
    }
  }

  async start(_disk: string, command: string): Promise<ConsoleUser> {
    const configPath = join(this.#directory, "machine.json");
    const config = this.#config(command);
    rmSync(config.control.socketPath, { force: true });
    writeFileSync(configPath, JSON.stringify(config));
    this.#log = "";
    const child = spawn(process.execPath, [join(root, "launcher/src/main.ts"), "run", configPath]);
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#log += text;
      });
    const client = new LauncherClient(config.control.socketPath);
    const attach = async () => {
      if (child.exitCode !== null) throw new Error(`the launcher ended with ${child.exitCode}: ${this.#log}`);
      // Refused as long as nobody listens.
      return client.console({ access: "write", history: true }).catch(() => undefined);
    };
    const stream = await waitFor(attach, {
      what: "the launcher's console",
      timeoutMs: START_DEADLINE_MS,
      intervalMs: 5,
    });
    return new ConsoleUser(stream, stream);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "close");
  }

  async readDisk(_disk: string, lengthBytes: number): Promise<Buffer> {
    const bytes = Buffer.alloc(lengthBytes);
    const fd = openSync(this.#diskPath, "r");
    try {
      readSync(fd, bytes, 0, lengthBytes, 0);
      return bytes;
    } finally {
      closeSync(fd);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    this.#cleanup.dispose();
  }

  #config(command: string): MachineConfig {
    const guest = buildTestGuest();
    return {
      version: 1,
      identity: { name: "power-cut", namespace: "default", uid: "00000000-0000-4000-8000-000000000000" },
      cpu: { count: 1, model: "Host" },
      memory: { sizeBytes: 32 << 20 },
      boot: { imageRoot: dirname(guest), kernelPath: `/${basename(guest)}`, commandLine: `-- ${command}` },
      disks: [{ name: "data", readOnly: false, queues: 1, source: this.#source }],
      console: { historyBytes: 65536 },
      control: { socketPath: join(this.#directory, "control.sock") },
      kvm: { devicePath: "/dev/kvm" },
      powerOffTimeoutMs: 1000,
      log: { level: "info" },
    };
  }
}

/** A block device on a new file. */
function loopDevice(backing: string, cleanup: DisposableStack): string {
  writeFileSync(backing, "");
  truncateSync(backing, DISK_BYTES);
  const device = execFileSync("losetup", ["--find", "--show", backing], { encoding: "utf8" }).trim();
  cleanup.defer(() => execFileSync("losetup", ["--detach", device]));
  return device;
}
