/**
 * Requests of a guest to its disk, under our launcher and under Debian's QEMU: the same guest on the same /dev/kvm, in
 * turn, on the same file (page cache) and the same block device (O_DIRECT), by io_uring and by threads. The load is the
 * test guest's `blkbench`: it runs at CPL 3, at full speed even where a guest's kernel is emulated, and looks for answers
 * instead of taking interrupts, so that what is measured is the way from the doorbell to the used ring. The block device
 * is a loop device on memory, by direct I/O: the kernel's work for it is that of a real one, and nobody shares it. Needs
 * root for it. Build first: hack/build launcher && hack/build-testguest.
 *
 *   node hack/bench/disks.ts [--rounds 3] [--ms 700] [--size-mib 256] [--directory DIR] [--only "cached io_uring .* read"]
 *                            [--polling US]  a table on standard error, JSON on standard output
 * --only: rows whose cache, engine and load it matches. --polling: the launcher's window, default its own.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { say } from "../lib/step.ts";
import { MIB } from "./bench-launcher.ts";
import type { BenchMachine } from "./bench-machine.ts";
import { compile, ticksPerSecond } from "./compile.ts";
import { type BenchDisk, startWithDisk, type Vmm } from "./disks/vmm.ts";
import { median, round, table } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    ms: { type: "string", default: "700" },
    "size-mib": { type: "string", default: "256" },
    directory: { type: "string", default: tmpdir() },
    only: { type: "string", default: "" },
    polling: { type: "string" },
  },
});
const runMs = Number(values.ms);
const only = new RegExp(values.only);
const pollingUs = values.polling === undefined ? undefined : Number(values.polling);
/** What lies here is in memory, and takes direct I/O. */
const MEMORY_DIRECTORY = "/dev/shm";
const RUN_TIMEOUT_MS = 120_000;
/** To find out how many requests make a run of the wanted length. */
const TRIAL_MS = 50;

interface Load {
  readonly name: string;
  readonly depth: number;
  readonly blockBytes: number;
  readonly random: boolean;
  readonly write: boolean;
}

const random = (depth: number, write: boolean): Load => ({
  name: `4 KiB random ${write ? "write" : "read"}, depth ${depth}`,
  depth,
  blockBytes: 4096,
  random: true,
  write,
});
const sequential = (write: boolean): Load => ({
  name: `1 MiB sequential ${write ? "write" : "read"}, depth 4`,
  depth: 4,
  blockBytes: MIB,
  random: false,
  write,
});
const loads: readonly Load[] = [
  ...[1, 32].flatMap((depth) => [random(depth, false), random(depth, true)]),
  sequential(false),
  sequential(true),
];

const vmms: readonly Vmm[] = (["cached", "direct"] as const).flatMap((cache) =>
  (["io_uring", "threads"] as const).flatMap((engine) =>
    (["launcher", "QEMU"] as const).map((name) => ({ name, engine, cache })),
  ),
);
const wantedOf = ({ cache, engine }: Omit<Vmm, "name">) =>
  loads.filter(({ name }) => only.test(`${cache} ${engine} ${name}`));

interface Figures {
  readonly requestsPerSecond: number;
  /** Of the VMM, without the guest's own. */
  readonly cpuUs: number;
}

async function runLoad(machine: BenchMachine, load: Load, count: number): Promise<Figures & { seconds: number }> {
  const { console } = machine;
  const kind = `${load.blockBytes} ${load.random ? 1 : 0} ${load.write ? 1 : 0}`;
  const cpuBefore = machine.cpuSeconds();
  console.type(`blkbench 0 ${load.depth} ${count} ${kind}\n`);
  const answer = /blkbench done (\d+) failed (\d+) ticks (\d+)\r\n/;
  const [, done, failed, ticks] = await console.see(answer, RUN_TIMEOUT_MS);
  const seconds = Number(ticks) / tscHz;
  if (Number(done) !== count || Number(failed) !== 0) throw new Error(`${load.name}: ${done} done, ${failed} failed`);
  const cpuSeconds = machine.cpuSeconds() - cpuBefore;
  return { requestsPerSecond: count / seconds, cpuUs: (cpuSeconds / count) * 1e6, seconds };
}

/** Runs for about the wanted time: a trial, made longer until it says something, tells how many requests that is. */
async function measure(machine: BenchMachine, load: Load): Promise<Figures> {
  for (let count = 4 * load.depth; ; count *= 4) {
    const trial = await runLoad(machine, load, count);
    if (trial.seconds * 1000 < TRIAL_MS) continue;
    return await runLoad(machine, load, Math.max(load.depth, Math.round((trial.requestsPerSecond * runMs) / 1000)));
  }
}

const key = ({ name, engine, cache }: Vmm, load: Load) => `${name} ${engine} ${cache} ${load.name}`;

async function measureAll(disk: BenchDisk, directory: string): Promise<Map<string, Figures[]>> {
  const denier = compile("disks/deny-io-uring", directory);
  const results = new Map<string, Figures[]>();
  for (let turn = 1; turn <= Number(values.rounds); turn++)
    for (const vmm of vmms) {
      const wanted = wantedOf(vmm);
      if (wanted.length === 0) continue;
      say(`round ${turn}: ${vmm.name}, ${vmm.engine}, ${vmm.cache}`);
      // What another has left dirty is not to be written back in this one's time.
      execFileSync("sync");
      if (vmm.cache === "cached") readFileSync(join(disk.directory, "disk.img"));
      await using machine = await startWithDisk(vmm, disk, directory, { denier, pollingUs });
      for (const load of wanted) {
        const figures = await measure(machine, load);
        results.set(key(vmm, load), [...(results.get(key(vmm, load)) ?? []), figures]);
      }
    }
  return results;
}

/** A row for each load, cache and engine, with both VMMs. */
function report(results: ReadonlyMap<string, readonly Figures[]>) {
  const of = (vmm: Vmm, load: Load) => {
    const runs = results.get(key(vmm, load)) ?? [];
    return {
      requestsPerSecond: median(runs.map((run) => run.requestsPerSecond)),
      cpuUs: median(runs.map((run) => run.cpuUs)),
    };
  };
  return (["cached", "direct"] as const).flatMap((cache) =>
    loads.flatMap((load) =>
      (["io_uring", "threads"] as const).flatMap((engine) => {
        if (!wantedOf({ cache, engine }).includes(load)) return [];
        const [ours, theirs] = [
          of({ name: "launcher", engine, cache }, load),
          of({ name: "QEMU", engine, cache }, load),
        ];
        const row = {
          load: load.name,
          cache,
          engine,
          launcher: round(ours.requestsPerSecond, 0),
          QEMU: round(theirs.requestsPerSecond, 0),
          ratio: round(ours.requestsPerSecond / theirs.requestsPerSecond, 2),
          "launcher CPU us": round(ours.cpuUs, 1),
          "QEMU CPU us": round(theirs.cpuUs, 1),
        };
        return [row];
      }),
    ),
  );
}

const directory = mkdtempSync(join(values.directory, "bench-disks-"));
const inMemory = mkdtempSync(join(MEMORY_DIRECTORY, "bench-disks-"));
const tscHz = ticksPerSecond(directory);
const sizeBytes = Number(values["size-mib"]) * MIB;
const claim = join(directory, "claim");
mkdirSync(claim);
for (const path of [join(claim, "disk.img"), join(inMemory, "backing")])
  writeFileSync(path, new Uint8Array(sizeBytes).fill(1), { flush: true });
const losetup = ["--find", "--show", "--direct-io=on", join(inMemory, "backing")];
const device = execFileSync("losetup", losetup, { encoding: "utf8" }).trim();
try {
  const rows = report(await measureAll({ directory: claim, device, sizeBytes }, directory));
  console.error(table(rows));
  const qemu = execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" }).split("\n")[0];
  console.log(JSON.stringify({ qemu, sizeBytes, rows }, null, 2));
} finally {
  execFileSync("losetup", ["--detach", device]);
  for (const each of [directory, inMemory]) rmSync(each, { recursive: true });
}
