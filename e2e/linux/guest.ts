import type { ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { ConsoleUser } from "../../hack/lib/guest-console.ts";
import { say, waitFor } from "../../hack/lib/step.ts";
import type { GuestImage } from "../../hack/linux-lab/guest-images.ts";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import type { TerminationMessage } from "../../launcher/api/control.ts";
import {
  type BootConfig,
  type DiskConfig,
  MACHINE_CONFIG_VERSION,
  type MachineConfig,
} from "../../launcher/api/machine-config.ts";
import { LauncherClient } from "./launcher-client.ts";

export interface GuestOptions {
  readonly image: GuestImage;
  readonly cpus?: number;
  readonly memoryMiB?: number;
  /** Added to the image's usual command line; not for images that boot by firmware. */
  readonly commandLine?: string;
  readonly powerOffTimeoutMs?: number;
  /** Network namespace of the lab that the launcher runs in. */
  readonly namespace?: string;
  /** Waits for a machine that moves here, instead of booting one. */
  readonly receive?: boolean;
  /** Makes what the lab must have first; done again where the lab has to be started anew. */
  readonly prepare?: () => Promise<void>;
  /** Takes the place of parts of the machine that would be made. */
  readonly change?: (config: MachineConfig) => MachineConfig;
}

/** How a launcher ended. */
export interface GuestEnd {
  readonly exitCode: number | null;
  readonly termination: TerminationMessage | undefined;
  /** Standard output and error of the launcher. */
  readonly log: string;
}

/** A launcher with its guest, in the lab. */
export interface Guest extends AsyncDisposable {
  readonly console: ConsoleUser;
  readonly launcher: LauncherClient;
  readonly config: MachineConfig;
  readonly ended: Promise<GuestEnd>;
  /** One more user at the console. */
  attach(access: "read" | "write"): Promise<ConsoleUser>;
  /** Process number of the launcher in the lab. */
  readonly pid: number;
}

/** A kernel that was told to be quiet says nothing until its init runs. */
const silenceMs = 90_000;
const bootTimeoutMs = { hello: 240_000, debian: 480_000, "debian-cloud": 600_000 } as const satisfies Record<
  GuestImage,
  number
>;
const maximumStarts = 3;
/** Shown when a user can type. */
const prompts: Readonly<Record<GuestImage, RegExp>> = {
  hello: /hello# /,
  debian: /root@debian:~# /,
  "debian-cloud": /root@(debian|keeper):~# /,
};

/**
 * Boots a guest to its shell. Emulated nodes break now and then, which is not the launcher's fault: when the node's
 * own kernel complains or the guest falls silent before it is up, it says so and starts both again, twice at most.
 */
export async function bootGuest(lab: LinuxLab, options: GuestOptions): Promise<Guest> {
  for (let start = 1; ; start++) {
    await options.prepare?.();
    const guest = await startGuest(lab, options);
    const problem = await watchBoot(lab, guest, options.image);
    if (problem === undefined) return guest;
    const shown = await lastWords(guest);
    await guest[Symbol.asyncDispose]();
    if (start === maximumStarts || !problem.labsFault) {
      const { log } = await guest.ended;
      throw new Error(`the guest did not boot: ${problem.what}\n${shown}\nLauncher:\n${log.slice(-3000)}`);
    }
    say(`linux tests: ${problem.what}; starting again (${start + 1} of ${maximumStarts})\n${shown}`);
    await lab.restart();
  }
}

/** What is known of a guest that does not come up. */
async function lastWords(guest: Guest): Promise<string> {
  const status = await Promise.race([
    guest.launcher.status().then((value) => JSON.stringify(value)),
    new Promise<string>((resolve) => setTimeout(() => resolve("no answer within 10 s"), 10_000).unref()),
  ]).catch((error: Error) => error.message);
  return `Console: ${guest.console.text.split("\n").slice(-25).join("\n")}\nStatus: ${status}`;
}

interface BootProblem {
  readonly what: string;
  /** Whether the lab's machine may be to blame. */
  readonly labsFault: boolean;
}

async function watchBoot(lab: LinuxLab, guest: Guest, image: GuestImage): Promise<BootProblem | undefined> {
  const timeoutMs = bootTimeoutMs[image];
  const up = guest.console.see(prompts[image], timeoutMs).then(
    () => "up" as const,
    (error: Error) => error,
  );
  const startedMs = performance.now();
  for (;;) {
    const tick = new Promise<"tick">((resolve) => setTimeout(() => resolve("tick"), 1000));
    const state = await Promise.race([up, guest.ended, tick]);
    if (state === "up") return undefined;
    const complaint = await lab.kernelComplaint();
    if (complaint) return { what: `the lab's own kernel failed (${complaint})`, labsFault: true };
    const emulated = lab.kind === "node";
    if (state instanceof Error) {
      return { what: state.message, labsFault: emulated && performance.now() - startedMs >= timeoutMs };
    }
    if (state !== "tick") {
      return { what: `the launcher ended: ${state.termination?.message ?? state.exitCode}`, labsFault: false };
    }
    if (guest.console.silentMs > silenceMs) {
      return { what: `the guest was silent for ${silenceMs / 1000} s`, labsFault: emulated };
    }
  }
}

/** Starts a launcher and attaches to its console, without waiting for the guest to say anything. */
export async function startGuest(lab: LinuxLab, options: GuestOptions): Promise<Guest> {
  const launcherDir = await lab.installLauncher();
  const directory = join(lab.paths.scratch, randomUUID().slice(0, 8));
  const config = machineConfig(lab, directory, options);
  await lab.run(`mkdir -p '${directory}' && cat >'${directory}/machine.json'`, JSON.stringify(config));
  const process = lab.start(
    `cd '${directory}' && echo $$ && exec ${inNamespace(options.namespace)} '${lab.paths.node}' '${launcherDir}/launcher.js' run '${directory}/machine.json'${options.receive ? " --receive" : ""}`,
  );
  const { pid, ended } = await followProcess(lab, process, directory);
  try {
    const socket = await reachSocket(lab, config.control.socketPath, { pid, ended });
    const launcher = new LauncherClient(socket.path);
    const attach = async (access: "read" | "write") => {
      const stream = await launcher.console({ access, history: true });
      return new ConsoleUser(stream, stream);
    };
    const console = await attach("write");
    return {
      console,
      launcher,
      config,
      ended,
      pid,
      attach,
      async [Symbol.asyncDispose]() {
        console.close();
        await endLauncher(lab, pid, directory);
        await ended;
        await socket[Symbol.asyncDispose]();
        await lab.run(`rm -rf '${directory}'`);
      },
    };
  } catch (error) {
    await endLauncher(lab, pid, directory);
    const end = await ended;
    throw end.termination ? new LauncherEndedEarly(end) : error;
  }
}

/** `ip netns exec` becomes the program, so the process number stays. */
function inNamespace(namespace: string | undefined): string {
  return namespace === undefined ? "" : `ip netns exec '${namespace}'`;
}

/** A node that was started since may have given the number to another. */
async function endLauncher(lab: LinuxLab, pid: number, directory: string): Promise<void> {
  await lab.run(`grep -sq '${directory}' /proc/${pid}/cmdline && kill -KILL ${pid} || true`);
}

/** Reads the process number that the shell printed first, and collects the rest. */
async function followProcess(
  lab: LinuxLab,
  process: ChildProcess,
  directory: string,
): Promise<{ pid: number; ended: Promise<GuestEnd> }> {
  let log = "";
  process.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    log += chunk;
  });
  process.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    log += chunk;
  });
  const exitCode = new Promise<number | null>((resolve) => process.on("close", resolve));
  const ended = exitCode.then(async (code): Promise<GuestEnd> => {
    const text = await lab.run(`cat '${directory}/termination' 2>/dev/null || true`).catch(() => "");
    return { exitCode: code, termination: text ? (JSON.parse(text) as TerminationMessage) : undefined, log };
  });
  const pid = await waitFor(async () => Number(/^(\d+)\n/.exec(log)?.[1] ?? 0) || undefined, {
    what: "the launcher to be started",
    timeoutMs: 30_000,
    intervalMs: 20,
  });
  return { pid, ended };
}

/** The launcher's socket, once it is there; rejects with the launcher's log if it ends before. */
async function reachSocket(
  lab: LinuxLab,
  path: string,
  launcher: { readonly pid: number; readonly ended: Promise<GuestEnd> },
): Promise<{ readonly path: string } & AsyncDisposable> {
  const there = lab.run(`until [ -S '${path}' ] || ! kill -0 ${launcher.pid}; do sleep 0.1; done`);
  const early = await Promise.race([there.then(() => undefined), launcher.ended]);
  if (early) throw new LauncherEndedEarly(early);
  return lab.reach(path);
}

/** The launcher ended before its console could be attached to. */
export class LauncherEndedEarly extends Error {
  override name = "LauncherEndedEarly";
  readonly end: GuestEnd;
  constructor(end: GuestEnd) {
    const why = end.termination ? `${end.termination.reason}: ${end.termination.message}` : end.log;
    super(`the launcher ended early with ${end.exitCode}: ${why}`);
    this.end = end;
  }
}

function machineConfig(lab: LinuxLab, directory: string, options: GuestOptions): MachineConfig {
  const imageRoot = join(lab.paths.guests, options.image);
  const cpus = options.cpus ?? 1;
  const config: MachineConfig = {
    version: MACHINE_CONFIG_VERSION,
    identity: { name: options.image, namespace: "lab", uid: randomUUID() },
    cpu: { count: cpus, model: "Host" },
    memory: { sizeBytes: (options.memoryMiB ?? 256) * 2 ** 20 },
    boot: options.image === "debian-cloud" ? { firmwarePath: lab.paths.firmware } : kernelBoot(imageRoot, options),
    disks: options.image === "hello" ? [] : [rootDisk(imageRoot, directory, cpus)],
    console: { historyBytes: 65536 },
    control: { socketPath: join(directory, "control.sock") },
    kvm: { devicePath: "/dev/kvm" },
    terminationMessagePath: join(directory, "termination"),
    powerOffTimeoutMs: options.powerOffTimeoutMs ?? 60_000,
    log: { level: "info" },
  };
  return options.change?.(config) ?? config;
}

function kernelBoot(imageRoot: string, { image, commandLine = "" }: GuestOptions): BootConfig {
  const root = image === "debian" ? ["root=/dev/vda rw systemd.show_status=1"] : [];
  return {
    imageRoot,
    kernelPath: "/boot/vmlinuz",
    initrdPath: "/boot/initrd.img",
    commandLine: ["console=ttyS0 quiet panic=-1", ...root, commandLine].join(" ").trim(),
  };
}

function rootDisk(imageRoot: string, directory: string, cpus: number): DiskConfig {
  return {
    name: "root",
    readOnly: false,
    queues: cpus,
    source: { kind: "image", imageRoot, overlayPath: join(directory, "root.overlay") },
  };
}
