import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LauncherClient } from "../../e2e/linux/launcher-client.ts";
import type { LauncherStatus } from "../../launcher/api/control.ts";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import { ConsoleUser } from "../lib/guest-console.ts";
import { parseProcessStat, TICKS_PER_SECOND } from "../lib/process-stat.ts";
import { waitFor } from "../lib/step.ts";
import { launcherBundle, launcherEnvironment, MIB, repository } from "./bench-launcher.ts";

export const BENCH_MEMORY_BYTES = 64 * MIB;
const START_DEADLINE_MS = 60_000;
/** The threads that run the guest: of the launcher, and of QEMU. */
const VCPU_THREAD = /^(vcpu|CPU \d+\/KVM)$/;

export interface BenchLauncherOptions {
  readonly config: MachineConfig;
  /** For its files. */
  readonly directory: string;
  /** Put before its command. */
  readonly wrapper?: readonly string[];
  /** Throws for a launcher that is not the wanted one. */
  check?(status: LauncherStatus): void;
}

/** The test guest under a VMM. */
export class BenchMachine implements AsyncDisposable {
  readonly console: ConsoleUser;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, console: ConsoleUser) {
    this.#child = child;
    this.console = console;
  }

  static async startLauncher(options: BenchLauncherOptions): Promise<BenchMachine> {
    const { config, directory, wrapper = [], check } = options;
    const path = join(directory, "machine.json");
    rmSync(config.control.socketPath, { force: true });
    writeFileSync(path, JSON.stringify(config));
    const [program = "", ...argv] = [...wrapper, process.execPath, launcherBundle, "run", path];
    const env = { ...process.env, ...launcherEnvironment };
    const child = spawn(program, argv, { env, stdio: ["ignore", "inherit", "inherit"] });
    const client = new LauncherClient(config.control.socketPath);
    const attach = () => client.console({ access: "write", history: true }).catch(() => undefined);
    const stream = await waitFor(attach, { what: "the launcher", timeoutMs: START_DEADLINE_MS, intervalMs: 20 });
    check?.(await client.status());
    return new BenchMachine(child, new ConsoleUser(stream, stream)).#ready();
  }

  /** Without firmware, and with as few devices as QEMU has beside those of `devices`. */
  static async startQemu(devices: readonly string[], wrapper: readonly string[] = []): Promise<BenchMachine> {
    const [program = "", ...argv] = [
      ...[...wrapper, "qemu-system-x86_64"],
      ...["-M", "microvm,accel=kvm,pcie=on,isa-serial=on,rtc=on", "-cpu", "host,-arch-capabilities"],
      ...["-name", "bench,debug-threads=on", "-m", `${BENCH_MEMORY_BYTES / MIB}M`, "-nodefaults", "-no-user-config"],
      ...["-display", "none", "-serial", "stdio", "-kernel", join(repository, "dist/testguest/testguest")],
      ...devices,
    ];
    const child = spawn(program, argv, { stdio: ["pipe", "pipe", "inherit"] });
    return new BenchMachine(child, new ConsoleUser(child.stdout, child.stdin)).#ready();
  }

  async #ready(): Promise<this> {
    await this.console.see("TESTGUEST READY", START_DEADLINE_MS);
    return this;
  }

  /** Processor seconds of everything but the guest itself, so far; of threads that have ended too. */
  cpuSeconds(): number {
    const root = `/proc/${this.#child.pid}`;
    let ticks = ticksOf(`${root}/stat`);
    for (const task of readdirSync(`${root}/task`)) {
      const comm = commOf(`${root}/task/${task}/comm`);
      if (VCPU_THREAD.test(comm)) ticks -= ticksOf(`${root}/task/${task}/stat`);
    }
    return ticks / TICKS_PER_SECOND;
  }

  /** Whether all its threads go before everything else on the machine. */
  setRealtime(isRealtime: boolean): void {
    const policy = isRealtime ? ["--fifo", "--all-tasks", "--pid", "1"] : ["--other", "--all-tasks", "--pid", "0"];
    execFileSync("chrt", [...policy, String(this.#child.pid)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.console.close();
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "close");
  }
}

/** Of a thread that has ended meanwhile, nothing. */
function commOf(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

function ticksOf(path: string): number {
  return parseProcessStat(readFileSync(path, "utf8")).cpuTicks;
}
