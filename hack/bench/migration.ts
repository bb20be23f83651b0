/**
 * Live migration between two processes on this machine, under our launcher and under Debian's QEMU: the same guest on the same
 * /dev/kvm, in turn; idle, and with guests that change their memory at three rates; by 1, 2 and 4 connections; and of the
 * launcher alone with a disk that is copied. Downtime is as the VMM reports it, and as the guest's ticker shows it: the longest
 * time between two of its ticks, of which there is one each millisecond, seen from outside. Both carry the same memory with TLS
 * on both sides, with the same downtime limit, auto-converge, and no limit of bandwidth; QEMU also without TLS.
 * Needs root and /dev/kvm. Build first: hack/build launcher && hack/build-testguest.
 *
 *   node hack/bench/migration.ts [--runs 5] [--only "idle.*QEMU"] [--max-downtime-ms 300]
 *       a table on standard error, JSON on standard output; --only: what is moved and how matches it
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import { TestAuthority } from "../../launcher/src/testing/certificates.ts";
import { say } from "../lib/step.ts";
import { MIB } from "./bench-launcher.ts";
import { ticksPerSecond } from "./compile.ts";
import { LauncherGuest } from "./migration/launcher.ts";
import type { MovingGuest } from "./migration/moving-guest.ts";
import { Pulse } from "./migration/pulse.ts";
import { QemuGuest } from "./migration/qemu.ts";
import { median, medians, round, table } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    "max-downtime-ms": { type: "string", default: "300" },
  },
});
const only = new RegExp(values.only);
const maxDowntimeMs = Number(values["max-downtime-ms"]);

/** Memory that the guest fills once, and memory that it writes round and round. */
const [FILL_ADDRESS, WRITE_ADDRESS] = ["0x1000000", "0x4000000"];
const PAGES_OF_MIB = 256;
const SEED = 7;
/** The writer's rate is kept in so many steps a second. */
const STEPS_A_SECOND = 100;
const WRITE_BYTES = 65_536;

interface Work {
  readonly name: string;
  readonly touchedMiB: number;
  readonly connections: number;
  readonly writes?: { readonly mibPerSecond: number; readonly ofMiB: number };
  /** Written of a disk that is copied, twice as large; there is none without. */
  readonly diskMiB?: number;
}

const VMMS = ["launcher", "QEMU", "QEMU, multifd", "QEMU without TLS"] as const;
type Vmm = (typeof VMMS)[number];

const writing = (mibPerSecond: number, ofMiB: number): Work => {
  const name = `writes ${mibPerSecond} MiB/s to ${ofMiB} MiB`;
  return { name, touchedMiB: 8, connections: 2, writes: { mibPerSecond, ofMiB } };
};
const wide = (connections: number): Work => {
  return { name: `idle, 192 MiB touched, connections: ${connections}`, touchedMiB: 192, connections };
};
const idle: Work = { name: "idle, 8 MiB touched", touchedMiB: 8, connections: 2 };
const withDisk: Work = { ...idle, name: `${idle.name}, 64 MiB of a disk`, diskMiB: 64 };
const plan: readonly { readonly work: Work; readonly vmms: readonly Vmm[] }[] = [
  { work: idle, vmms: VMMS },
  { work: writing(10, 16), vmms: VMMS },
  { work: writing(50, 32), vmms: VMMS },
  { work: writing(200, 64), vmms: VMMS },
  { work: wide(1), vmms: VMMS },
  { work: wide(2), vmms: ["launcher", "QEMU, multifd"] },
  { work: wide(4), vmms: ["launcher", "QEMU, multifd"] },
  { work: withDisk, vmms: ["launcher"] },
];

interface Row extends Record<string, number> {
  readonly seenMs: number;
  readonly downtimeMs: number;
  readonly totalMs: number;
  readonly sentMiB: number;
  readonly rounds: number;
}

const directory = mkdtempSync(join(tmpdir(), "bench-migration-"));
const authority = await TestAuthority.create();
const { cert, key } = await authority.issue("CN=machine");
for (const [name, text] of Object.entries({ cert, key, ca: authority.certificate }))
  writeFileSync(join(directory, name), text);
const ticks = Math.round(ticksPerSecond(directory));

function disksOf(own: string, { diskMiB = 0 }: Work): (role: string) => MachineConfig["disks"] {
  if (diskMiB === 0) return () => [];
  return (role) => {
    const source = { kind: "empty", path: join(own, `disk-${role}`), sizeBytes: 2 * diskMiB * MIB } as const;
    return [{ name: "scratch", readOnly: false, queues: 1, source }];
  };
}

let made = 0;
async function start(vmm: Vmm, work: Work): Promise<{ readonly guest: MovingGuest; readonly own: string }> {
  const own = join(directory, String(++made));
  mkdirSync(own);
  if (vmm === "launcher") {
    const guest = await LauncherGuest.start({ directory: own, certificates: directory, disks: disksOf(own, work) });
    return { guest, own };
  }
  const way = { tls: vmm !== "QEMU without TLS", multifd: vmm === "QEMU, multifd" };
  return { guest: await QemuGuest.start(way, own, directory), own };
}

async function measure(vmm: Vmm, work: Work): Promise<Row> {
  const { touchedMiB, writes, diskMiB = 0 } = work;
  const { guest, own } = await start(vmm, work);
  await using machine = guest;
  const filled = `${FILL_ADDRESS} ${touchedMiB * PAGES_OF_MIB} ${SEED}`;
  await machine.ask(`fill ${filled}`, /fill done\r\n/);
  if (diskMiB > 0) {
    const count = (diskMiB * MIB) / WRITE_BYTES;
    await machine.ask(`blkbench 0 8 ${count} ${WRITE_BYTES} 0 1`, new RegExp(`blkbench done ${count} failed 0 `));
  }
  await machine.ask(`timer ${Math.round(ticks / 1000)} 1`, /timer runs\r\n/);
  if (writes) {
    const pages = Math.ceil((writes.mibPerSecond * PAGES_OF_MIB) / STEPS_A_SECOND);
    const period = Math.round(ticks / STEPS_A_SECOND);
    await machine.ask(`pace ${WRITE_ADDRESS} ${writes.ofMiB * PAGES_OF_MIB} ${pages} ${period}`, /pace runs\r\n/);
  }
  using pulse = await Pulse.of(await machine.pids());
  const { parts, ...report } = await machine.move({ connections: work.connections, maxDowntimeMs });
  const seenMs = await pulse.longestMs();
  if (writes) await machine.ask("stop", /pace rounds \d+ written \d+ errors 0\r\n/);
  await machine.ask(`check ${filled}`, /check errors 0\r\n/);
  const diskAllocatedMiB = diskMiB > 0 ? (statSync(join(own, "disk-source")).blocks * 512) / MIB : 0;
  return { seenMs, ...report, ...(parts && { ...parts, diskAllocatedMiB }) };
}

const nameOf = (vmm: Vmm, work: Work) => `${work.name}, ${vmm}`;
const found = new Map<string, Row[]>();
const loads: number[] = [];
try {
  for (let run = 1; run <= Number(values.runs); run++)
    for (const { work, vmms } of plan)
      for (const vmm of vmms) {
        const name = nameOf(vmm, work);
        if (!only.test(name)) continue;
        loads.push(loadavg()[0] ?? 0);
        const row = await measure(vmm, work);
        found.set(name, [...(found.get(name) ?? []), row]);
        say(`run ${run}: ${name}: seen ${round(row.seenMs, 1)} ms, ${round(row.totalMs, 0)} ms in all`);
      }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

const COLUMNS = ["seenMs", "downtimeMs", "totalMs", "sentMiB", "sentOfTouched", "mibPerSecond", "rounds"] as const;
const results = plan.flatMap(({ work, vmms }) =>
  vmms.flatMap((vmm) => {
    const rows = found.get(nameOf(vmm, work));
    if (!rows) return [];
    const touchedMiB = work.touchedMiB + (work.writes?.ofMiB ?? 0);
    const whole = rows.map((row) => {
      const mibPerSecond = row.sentMiB / (row.totalMs / 1000);
      return { ...row, sentOfTouched: row.sentMiB / touchedMiB, mibPerSecond };
    });
    return [{ work: work.name, vmm, ...medians(whole, 2) }];
  }),
);
say(`\n${table(results.map(({ work, vmm, ...row }) => ({ work, vmm, ...chosen(row, COLUMNS) })))}`);

const PARTS = ["haltMs", "lastPassMs", "stateMs", "loadMs", "resumeMs", "diskSentMiB", "diskAllocatedMiB"] as const;
const parts = results.filter(({ vmm }) => vmm === "launcher").map((row) => ({ work: row.work, ...chosen(row, PARTS) }));
if (parts.length > 0) say(`\n${table(parts)}`);

function chosen(row: Readonly<Record<string, unknown>>, names: readonly string[]): Record<string, number> {
  return Object.fromEntries(names.map((name) => [name, round(Number(row[name]), 1)]));
}

/** The launcher's medians to each of QEMU's. */
const ratios = results.flatMap((theirs) => {
  const ours = results.find(({ work, vmm }) => work === theirs.work && vmm === "launcher");
  if (!ours || theirs.vmm === "launcher") return [];
  const ratio = (name: "seenMs" | "downtimeMs" | "totalMs" | "sentMiB") => round(ours[name] / theirs[name], 2);
  const of = { seen: ratio("seenMs"), downtime: ratio("downtimeMs"), total: ratio("totalMs"), sent: ratio("sentMiB") };
  return [{ work: theirs.work, to: theirs.vmm, ...of }];
});
if (ratios.length > 0) say(`\n${table(ratios)}`);
const qemu = execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" }).split("\n")[0];
const loadAverage = round(median(loads), 1);
console.log(JSON.stringify({ qemu, runs: Number(values.runs), maxDowntimeMs, loadAverage, results, ratios }, null, 2));
process.exit(0);
