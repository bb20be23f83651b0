/**
 * How long Debian's kernel takes from the start of the process to /init and to a shell, under our launcher and under
 * Debian's `qemu-system-x86_64 -enable-kvm` with the same kernel, initrd, memory, processors and kinds of devices, in
 * the same node, in turn; and how often the guest left to user space. Boots that print all are fewer: their exits are
 * what is asked. Build first: hack/build launcher. On a machine whose KVM is not fit for Linux the node is the emulated
 * one of hack/linux-lab.
 *
 *   node hack/bench/kernel-boot.ts [--runs 5] [--loud-runs 1] [--cpus 1] [--memory-mib 256] [--minutes 8]
 *                                            a table on standard error, JSON on standard output
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { MACHINE_CONFIG_VERSION, type MachineConfig } from "../../launcher/api/machine-config.ts";
import { writeCpio } from "../images/guest/cpio.ts";
import { say } from "../lib/step.ts";
import type { LinuxLab } from "../linux-lab/lab.ts";
import { openLab } from "../linux-lab/open.ts";
import { launcherEnvironment, MIB } from "./bench-launcher.ts";
import type { BootMark, BootOrder, BootResult, Counts } from "./kernel-boot/boot-once.ts";
import { median, round, table } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    "loud-runs": { type: "string", default: "1" },
    cpus: { type: "string", default: "1" },
    "memory-mib": { type: "string", default: "256" },
    /** When they are over, no boot is begun, and the results are those of the boots there were. */
    minutes: { type: "string", default: "8" },
  },
});
const cpus = Number(values.cpus);
const memoryMiB = Number(values["memory-mib"]);

const BOOT_TIMEOUT_MS = 120_000;
/** Of all boots: emulated nodes break now and then, which is neither's fault. */
const MAXIMUM_FAILURES = 3;

const INIT_MARK = "bench: init";
const marks = { init: INIT_MARK, shell: "hello# " };
type Mark = keyof typeof marks;

/** Put before the image's own /init, to tell when the kernel is done. */
const init = `#!/bin/busybox sh
echo "${INIT_MARK}"
exec /init
`;

type Vmm = "launcher" | "qemu";
const vmms: readonly Vmm[] = ["launcher", "qemu"];

interface Scenario {
  readonly name: string;
  readonly runs: number;
  readonly console: "ttyS0" | "hvc0";
  readonly commandLine: string;
}

const scenario = (name: string, runs: number, console: Scenario["console"], more: string): Scenario => ({
  name,
  runs,
  console,
  commandLine: `console=${console} panic=-1 rdinit=/bench-init ${more}`.trim(),
});
const scenarios = [
  scenario("quiet", Number(values.runs), "ttyS0", "quiet"),
  scenario("loud on ttyS0", Number(values["loud-runs"]), "ttyS0", ""),
  scenario("loud on hvc0", Number(values["loud-runs"]), "hvc0", ""),
];

interface Boot {
  readonly vmm: Vmm;
  readonly scenario: string;
  readonly result: BootResult;
}

/** Where the files of a boot are, in the lab. */
interface Files {
  readonly directory: string;
  readonly program: string;
  readonly launcher: string;
  readonly kernel: string;
  readonly initrd: string;
}

async function prepare(lab: LinuxLab): Promise<Files> {
  const directory = join(lab.paths.scratch, "kernel-boot");
  const boot = join(lab.paths.guests, "hello/boot");
  const files = {
    directory,
    program: `${directory}/boot-once.ts`,
    launcher: `${await lab.installLauncher()}/launcher.js`,
    kernel: `${boot}/vmlinuz`,
    initrd: `${directory}/initrd.img`,
  };
  await lab.run(`rm -rf '${directory}' && mkdir -p '${directory}'`);
  await lab.run(
    `cat >'${files.program}'`,
    await readFile(join(import.meta.dirname, "kernel-boot/boot-once.ts"), "utf8"),
  );
  // The kernel unpacks one archive after the other.
  const more = writeCpio([{ path: "bench-init", content: Buffer.from(init), mode: 0o755 }]).toString("base64");
  await lab.run(`{ cat '${boot}/initrd.img'; base64 -d; } >'${files.initrd}'`, more);
  if (lab.kind === "node")
    await lab.run("mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing || true");
  return files;
}

function machineConfig(files: Files, commandLine: string): MachineConfig {
  return {
    version: MACHINE_CONFIG_VERSION,
    identity: { name: "bench", namespace: "bench", uid: "00000000-0000-4000-8000-000000000000" },
    cpu: { count: cpus, model: "Host" },
    memory: { sizeBytes: memoryMiB * MIB },
    boot: { imageRoot: "/", kernelPath: files.kernel, initrdPath: files.initrd, commandLine },
    disks: [],
    console: { historyBytes: 65536 },
    control: { socketPath: `${files.directory}/control.sock` },
    kvm: { devicePath: "/dev/kvm" },
    powerOffTimeoutMs: 5000,
    log: { level: "warn" },
  };
}

function qemuCommand(files: Files, { console, commandLine }: Scenario): string[] {
  const port = console === "ttyS0" ? "isa-serial,chardev=console" : "virtconsole,chardev=console";
  const other = console === "ttyS0" ? "virtconsole,chardev=null" : "isa-serial,chardev=null";
  const chardevs = ["-chardev", "stdio,id=console,signal=off", "-chardev", "null,id=null"];
  const devices = ["virtio-rng-pci", "virtio-serial-pci", port, other].flatMap((device) => ["-device", device]);
  return [
    ...["qemu-system-x86_64", "-enable-kvm", "-machine", "q35", "-cpu", "host", "-nodefaults", "-no-user-config"],
    ...["-display", "none", "-no-reboot", "-smp", String(cpus), "-m", String(memoryMiB), ...chardevs, ...devices],
    ...["-kernel", files.kernel, "-initrd", files.initrd, "-append", commandLine],
  ];
}

async function bootWith(lab: LinuxLab, files: Files, vmm: Vmm, scenario: Scenario): Promise<BootResult> {
  const machine = `${files.directory}/machine.json`;
  const config = machineConfig(files, scenario.commandLine);
  await lab.run(`rm -f '${config.control.socketPath}'; cat >'${machine}'`, JSON.stringify(config));
  const order: BootOrder =
    vmm === "launcher"
      ? {
          argv: [lab.paths.node, files.launcher, "run", machine],
          env: launcherEnvironment,
          controlSocket: config.control.socketPath,
          marks,
          timeoutMs: BOOT_TIMEOUT_MS,
        }
      : { argv: qemuCommand(files, scenario), env: {}, marks, timeoutMs: BOOT_TIMEOUT_MS };
  return JSON.parse(await lab.run(`'${lab.paths.node}' '${files.program}'`, JSON.stringify(order))) as BootResult;
}

/** In turn, so that what else the machine does meets both. */
async function bootAll(lab: LinuxLab): Promise<{ boots: Boot[]; failures: string[] }> {
  const boots: Boot[] = [];
  const failures: string[] = [];
  let files = await prepare(lab);
  const orders = scenarios.flatMap((scenario) =>
    Array.from({ length: scenario.runs }, () => vmms.map((vmm) => ({ vmm, scenario }))).flat(),
  );
  const endMs = performance.now() + Number(values.minutes) * 60_000;
  for (let order = orders[0]; order && performance.now() < endMs; order = orders[boots.length]) {
    const { vmm, scenario } = order;
    const what = `${boots.length + 1} of ${orders.length}: ${vmm}, ${scenario.name}`;
    try {
      const result = await bootWith(lab, files, vmm, scenario);
      boots.push({ vmm, scenario: scenario.name, result });
      const times = Object.entries(result).map(([mark, { ms }]) => `${mark} ${round(ms / 1000, 2)} s`);
      say(`${what}: ${times.join(", ")}`);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      say(`${what}: failed: ${text}`);
      failures.push(`${what}: ${(await lab.kernelComplaint()) ?? text}`);
      if (failures.length > MAXIMUM_FAILURES) throw error;
      if (lab.kind === "node") await lab.restart();
      files = await prepare(lab);
    }
  }
  return { boots, failures };
}

function sum(counts: Counts | null | undefined): number | null {
  return counts ? Object.values(counts).reduce((all, count) => all + count, 0) : null;
}

/** Medians of the boots of one VMM, at one mark; the counts by kind are those of the boot in the middle. */
function summary(boots: readonly Boot[], mark: Mark) {
  const reached = boots.flatMap(({ result }) => result[mark] ?? []).sort((a, b) => a.ms - b.ms);
  const middle = reached[Math.floor(reached.length / 2)];
  const of = (value: (mark: BootMark) => number | null) => {
    const numbers = reached.flatMap((one) => value(one) ?? []);
    return numbers.length > 0 ? median(numbers) : null;
  };
  return {
    boots: reached.length,
    ms: round(of(({ ms }) => ms) ?? Number.NaN, 0),
    allMs: boots.flatMap(({ result }) => round(result[mark]?.ms ?? Number.NaN, 0)),
    consoleCharacters: of(({ consoleCharacters }) => consoleCharacters),
    userspaceExits: of(({ userspaceExits }) => sum(userspaceExits)),
    userspaceExitsByReason: middle?.userspaceExits ?? null,
    exits: of(({ status }) => sum(status?.exits)),
    exitsByKind: middle?.status ? mostFirst(middle.status.exits) : null,
    milestonesMs: middle?.status?.milestones ?? null,
  };
}

function mostFirst(counts: Counts): Counts {
  return Object.fromEntries(Object.entries(counts).sort(([, a], [, b]) => b - a));
}

function report(boots: readonly Boot[]) {
  return scenarios
    .filter(({ runs }) => runs > 0)
    .map((scenario) => {
      const of = (vmm: Vmm, mark: Mark) =>
        summary(
          boots.filter((boot) => boot.vmm === vmm && boot.scenario === scenario.name),
          mark,
        );
      const both = (vmm: Vmm) => ({ init: of(vmm, "init"), shell: of(vmm, "shell") });
      const [launcher, qemu] = [both("launcher"), both("qemu")];
      return {
        ...scenario,
        ratioToInit: round(launcher.init.ms / qemu.init.ms, 2),
        ratioToShell: round(launcher.shell.ms / qemu.shell.ms, 2),
        launcher,
        qemu,
      };
    });
}

function print(results: ReturnType<typeof report>): void {
  const rows = results.flatMap(({ name, ratioToInit, ...result }) =>
    vmms.map((vmm) => ({
      boot: name,
      VMM: vmm,
      boots: result[vmm].init.boots,
      "init ms": result[vmm].init.ms,
      "shell ms": result[vmm].shell.ms,
      "to user space, init": result[vmm].init.userspaceExits ?? Number.NaN,
      "to user space, shell": result[vmm].shell.userspaceExits ?? Number.NaN,
      "init, launcher / QEMU": vmm === "launcher" ? ratioToInit : Number.NaN,
    })),
  );
  console.error(table(rows).replaceAll("NaN", "  -"));
  for (const { name, launcher } of results) {
    const kinds = Object.entries(launcher.shell.exitsByKind ?? {}).map(([kind, count]) => `${kind} ${count}`);
    const steps = Object.entries(launcher.shell.milestonesMs ?? {}).map(([step, ms]) => `${step} ${ms}`);
    const total = sum(launcher.shell.exitsByKind);
    console.error(`${name}, launcher's middle boot: ${total} exits to the shell: ${kinds.join(", ")}`);
    console.error(`${name}, launcher's middle boot: ms since process start: ${steps.join(", ")}`);
  }
}

const lab = await openLab();
const qemuVersion = (await lab.run("qemu-system-x86_64 --version")).split("\n")[0];
const kernelOfNode = (await lab.run("uname -r")).trim();
const { boots, failures } = await bootAll(lab);
const results = report(boots);
print(results);
console.log(JSON.stringify({ lab: lab.kind, kernelOfNode, qemuVersion, cpus, memoryMiB, failures, results }, null, 2));
