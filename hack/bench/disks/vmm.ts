import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LauncherClient } from "../../../e2e/linux/launcher-client.ts";
import type { DiskSource } from "../../../launcher/api/machine-config.ts";
import { ConsoleUser } from "../../lib/guest-console.ts";
import { waitFor } from "../../lib/step.ts";
import { launcherBundle, launcherEnvironment, MIB, repository, testGuestConfig } from "../bench-launcher.ts";

export type Engine = "io_uring" | "threads";
export type Cache = "cached" | "direct";

/** Where the disk's bytes are. */
export interface BenchDisk {
  /** A directory with the file disk.img alone. */
  readonly directory: string;
  /** A block device on another file. */
  readonly device: string;
  readonly sizeBytes: number;
}

/** How one guest is run. */
export interface Vmm {
  readonly name: "launcher" | "QEMU";
  readonly engine: Engine;
  readonly cache: Cache;
}

/** Of the launcher alone. */
export interface LauncherOptions {
  /** Runs a command without io_uring. */
  readonly denier: string;
  /** The longest time to look for the next request; the launcher's default when absent. */
  readonly pollingUs?: number | undefined;
}

const MEMORY_BYTES = 64 * MIB;
const START_DEADLINE_MS = 60_000;
/** Ticks of /proc/PID/stat (getconf CLK_TCK). */
const TICKS_PER_SECOND = 100;
/** The threads that run the guest: of the launcher, and of QEMU. */
const VCPU_THREAD = /^(vcpu|CPU \d+\/KVM)$/;

/** The test guest under a VMM, with one disk. */
export class BenchMachine implements AsyncDisposable {
  readonly console: ConsoleUser;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, console: ConsoleUser) {
    this.#child = child;
    this.console = console;
  }

  /** `directory` is for files of the launcher. */
  static async start(vmm: Vmm, disk: BenchDisk, directory: string, options: LauncherOptions): Promise<BenchMachine> {
    const machine = vmm.name === "QEMU" ? startQemu(vmm, disk) : await startLauncher(vmm, disk, directory, options);
    await machine.console.see("TESTGUEST READY", START_DEADLINE_MS);
    return machine;
  }

  static of(child: ChildProcess, console: ConsoleUser): BenchMachine {
    return new BenchMachine(child, console);
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

/** utime and stime (proc_pid_stat(5)). */
function ticksOf(path: string): number {
  const stat = readFileSync(path, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** Without firmware and with as few devices as QEMU has; its disk has a thread of its own, which is its fastest way. */
function startQemu({ engine, cache }: Vmm, disk: BenchDisk): BenchMachine {
  const file = cache === "cached" ? join(disk.directory, "disk.img") : disk.device;
  const drive = `if=none,id=disk,format=raw,file=${file},cache=${cache === "cached" ? "writeback" : "none"},aio=${engine}`;
  const child = spawn(
    "qemu-system-x86_64",
    [
      ...["-M", "microvm,accel=kvm,pcie=on,isa-serial=on,rtc=on", "-cpu", "host,-arch-capabilities"],
      ...["-name", "bench,debug-threads=on", "-m", `${MEMORY_BYTES / MIB}M`, "-nodefaults", "-no-user-config"],
      ...["-display", "none", "-serial", "stdio", "-kernel", join(repository, "dist/testguest/testguest")],
      ...["-object", "iothread,id=io", "-drive", drive],
      ...["-device", "virtio-blk-pci,drive=disk,iothread=io,disable-legacy=on"],
    ],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  return BenchMachine.of(child, new ConsoleUser(child.stdout, child.stdin));
}

async function startLauncher(
  vmm: Vmm,
  disk: BenchDisk,
  directory: string,
  { denier, pollingUs }: LauncherOptions,
): Promise<BenchMachine> {
  const source: DiskSource =
    vmm.cache === "cached"
      ? { kind: "directory", path: disk.directory, sizeBytes: disk.sizeBytes }
      : { kind: "raw", path: disk.device };
  const config = testGuestConfig(directory, 1, {
    memory: { sizeBytes: MEMORY_BYTES },
    disks: [{ name: "disk", readOnly: false, queues: 1, source }],
    ...(pollingUs !== undefined && { polling: { windowUs: pollingUs, sharePercent: 50 } }),
  });
  const path = join(directory, "machine.json");
  rmSync(config.control.socketPath, { force: true });
  writeFileSync(path, JSON.stringify(config));
  const command = [process.execPath, launcherBundle, "run", path];
  const [program = "", ...argv] = vmm.engine === "threads" ? [denier, ...command] : command;
  const env = { ...process.env, ...launcherEnvironment };
  const child = spawn(program, argv, { env, stdio: ["ignore", "inherit", "inherit"] });
  const client = new LauncherClient(config.control.socketPath);
  const attach = () => client.console({ access: "write", history: true }).catch(() => undefined);
  const stream = await waitFor(attach, { what: "the launcher", timeoutMs: START_DEADLINE_MS, intervalMs: 20 });
  const { ioEngine } = await client.status();
  if (ioEngine !== vmm.engine) throw new Error(`the launcher uses ${ioEngine}, not ${vmm.engine}`);
  return BenchMachine.of(child, new ConsoleUser(stream, stream));
}
