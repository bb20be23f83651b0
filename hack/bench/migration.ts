/**
 * Live migration between two launchers on this machine: downtime as it is reported and as the guest sees it (the longest gap
 * between two looks at its clock), total time, bytes and rounds; idle, and with guests that write pages round and round; with a
 * disk that is copied, also against the same without (ratios), and what was sent of it against what it has allocated.
 * Needs /dev/kvm. Build first: hack/build launcher && hack/build-testguest.
 *
 *   node hack/bench/migration.ts [RUNS [PATTERN]]   a table on standard error, JSON on standard output
 */
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import type { MigrationResult, MigrationStatus } from "../../launcher/api/migration.ts";
import { RealLauncher } from "../../launcher/src/migration/testing/real-launcher.ts";
import { TestAuthority } from "../../launcher/src/testing/certificates.ts";
import { launcherBundle, MIB } from "./bench-launcher.ts";
import { medians, table } from "./statistics.ts";

const runs = Number(process.argv[2] ?? 5);
const pattern = new RegExp(process.argv[3] ?? "");
const LOAD_ADDRESS = "0x4000000";

interface Row extends Record<string, number> {
  readonly downtimeMs: number;
  readonly seenMs: number;
  readonly totalMs: number;
  readonly lastPassMs: number;
  readonly stateMs: number;
  readonly loadMs: number;
  readonly resumeMs: number;
  readonly sentMiB: number;
  readonly diskSentMiB: number;
  readonly diskAllocatedMiB: number;
  readonly rounds: number;
}

const directory = mkdtempSync(join(tmpdir(), "bench-migration-"));
const authority = await TestAuthority.create();
const { cert, key } = await authority.issue("CN=machine");
const paths = { certPath: join(directory, "cert"), keyPath: join(directory, "key"), caPath: join(directory, "ca") };
writeFileSync(paths.certPath, cert);
writeFileSync(paths.keyPath, key);
writeFileSync(paths.caPath, authority.certificate);

let made = 0;
function launcher(diskMiB = 0): RealLauncher {
  made += 1;
  const migration = { address: "127.0.0.1", port: 30_000 + 2 * made, ...paths };
  const changes = { migration, memory: { sizeBytes: 256 * MIB }, disks: diskMiB > 0 ? [disk(diskMiB)] : [] };
  return new RealLauncher(join(directory, String(made)), changes, launcherBundle);
}

const diskPath = () => join(directory, `disk-${made}`);

/** Half of it is never written. */
function disk(writtenMiB: number): MachineConfig["disks"][number] {
  const source = { kind: "empty", path: diskPath(), sizeBytes: 2 * writtenMiB * MIB } as const;
  return { name: "scratch", readOnly: false, queues: 1, source };
}

async function ticksPerMs(of: RealLauncher): Promise<number> {
  const tsc = async () => Number(/tsc (\d+)/.exec(await of.ask("tsc", /tsc \d+\r\n/))?.[1]);
  const [first, startMs] = [await tsc(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, 500));
  return ((await tsc()) - first) / (performance.now() - startMs);
}

/** The source tells its result in its log, since it ends with it. */
function resultOf({ output }: RealLauncher): MigrationResult & MigrationResult["split"] {
  const line = output.split("\n").find((each) => each.includes('"machine is migrated"'));
  if (!line) throw new Error(`no result: ${output.slice(-2000)}`);
  return JSON.parse(line);
}

interface Work {
  readonly touchedMiB: number;
  readonly loadPages: number;
  readonly connections: number;
  /** Written of a disk that is copied; there is none without. */
  readonly diskMiB?: number;
}

const WRITE_BYTES = 65_536;

async function migrate({ touchedMiB, loadPages, connections, diskMiB = 0 }: Work): Promise<Row> {
  await using source = await launcher(diskMiB).start();
  const ownDisk = diskPath();
  await source.attach();
  await source.said("READY");
  await source.ask(`fill 0x1000000 ${touchedMiB * 256} 7`, "fill done");
  if (diskMiB > 0) {
    const writes = (diskMiB * MIB) / WRITE_BYTES;
    await source.ask(`blkbench 0 8 ${writes} ${WRITE_BYTES} 0 1`, `blkbench done ${writes} failed 0`);
  }
  const perMs = await ticksPerMs(source);
  await source.ask(`load ${LOAD_ADDRESS} ${loadPages}`, "load runs");
  await using target = await launcher(diskMiB).start("--receive");
  const port = target.config.migration?.port;
  const { value } = await source.call("POST", "/v1/migration/start", { address: "127.0.0.1", port, connections });
  if ((value as unknown as MigrationStatus).role !== "source") throw new Error(JSON.stringify(value));
  await source.ended();
  await target.attach();
  const said = await target.ask("stop", /load rounds .* ticks \d+\r\n/);
  const [, errors, longest] = /errors (\d+) .*longest (\d+)/.exec(said) ?? [];
  if (errors !== "0") throw new Error(`the guest found ${errors} errors`);
  await target.ask(`check 0x1000000 ${touchedMiB * 256} 7`, "check errors 0\r\n");
  const result = resultOf(source);
  return {
    downtimeMs: result.downtimeMs,
    seenMs: Number(longest) / perMs,
    totalMs: result.totalMs,
    lastPassMs: result.lastPassMs,
    stateMs: result.stateMs,
    loadMs: result.loadMs,
    resumeMs: result.resumeMs,
    sentMiB: result.sentBytes / MIB,
    diskSentMiB: result.diskSentBytes / MIB,
    diskAllocatedMiB: diskMiB > 0 ? (statSync(ownDisk).blocks * 512) / MIB : 0,
    rounds: result.rounds,
  };
}

const idle = { touchedMiB: 8, loadPages: 1, connections: 2 };
const WITHOUT_DISK = "idle, 8 MiB touched";
const WITH_DISK = "idle, 8 MiB touched, 64 MiB of a disk";
const rows: Readonly<Record<string, Work>> = {
  [WITHOUT_DISK]: idle,
  "idle, 40 MiB touched, 1 connection": { ...idle, touchedMiB: 40, connections: 1 },
  "idle, 40 MiB touched, 2 connections": { ...idle, touchedMiB: 40 },
  "writes 1 MiB round and round": { ...idle, loadPages: 256 },
  "writes 16 MiB round and round": { ...idle, loadPages: 4096 },
  [WITH_DISK]: { ...idle, diskMiB: 64 },
};

const found = new Map<string, Row>();
try {
  for (const [name, work] of Object.entries(rows)) {
    if (!pattern.test(name)) continue;
    const measured: Row[] = [];
    for (let run = 0; run < runs; run++) measured.push(await migrate(work));
    const row = medians(measured, 1);
    found.set(name, row);
    console.error(name, row);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
const results = [...found].map(([name, row]) => ({ name, ...row }));
console.error(`\n${table(results)}`);
const [without, withDisk] = [found.get(WITHOUT_DISK), found.get(WITH_DISK)];
const ratios = without &&
  withDisk && {
    downtimeWithDisk: withDisk.downtimeMs / without.downtimeMs,
    sentOfAllocated: withDisk.diskSentMiB / withDisk.diskAllocatedMiB,
  };
if (ratios) console.error("ratios", ratios);
console.log(JSON.stringify({ runs, results, ratios }, null, 2));
process.exit(0);
