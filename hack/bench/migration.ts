/**
 * Live migration between two launchers on this machine: downtime as it is reported and as the guest sees it (the longest gap
 * between two looks at its clock), total time, bytes and rounds; idle, and with guests that write pages round and round.
 * Needs /dev/kvm. Build first: hack/build launcher && hack/build-testguest.
 *
 *   node hack/bench/migration.ts [RUNS [PATTERN]]   a table on standard error, JSON on standard output
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
function launcher(): RealLauncher {
  made += 1;
  const migration = { address: "127.0.0.1", port: 30_000 + 2 * made, ...paths };
  const changes = { migration, memory: { sizeBytes: 256 * MIB } };
  return new RealLauncher(join(directory, String(made)), changes, launcherBundle);
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

async function migrate(touchedMiB: number, loadPages: number, connections: number): Promise<Row> {
  await using source = await launcher().start();
  await source.attach();
  await source.said("READY");
  await source.ask(`fill 0x1000000 ${touchedMiB * 256} 7`, "fill done");
  const perMs = await ticksPerMs(source);
  await source.ask(`load ${LOAD_ADDRESS} ${loadPages}`, "load runs");
  await using target = await launcher().start("--receive");
  const port = target.config.migration?.port;
  const { value } = await source.call("POST", "/v1/migration/start", { address: "127.0.0.1", port, connections });
  if ((value as unknown as MigrationStatus).role !== "source") throw new Error(JSON.stringify(value));
  await source.ended();
  await target.attach();
  const said = await target.ask("stop", /ticks \d+\r\n/);
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
    rounds: result.rounds,
  };
}

const rows: Readonly<Record<string, () => Promise<Row>>> = {
  "idle, 8 MiB touched": () => migrate(8, 1, 2),
  "idle, 40 MiB touched, 1 connection": () => migrate(40, 1, 1),
  "idle, 40 MiB touched, 2 connections": () => migrate(40, 1, 2),
  "writes 1 MiB round and round": () => migrate(8, 256, 2),
  "writes 16 MiB round and round": () => migrate(8, 4096, 2),
};

const results = [];
try {
  for (const [name, measure] of Object.entries(rows)) {
    if (!pattern.test(name)) continue;
    const measured: Row[] = [];
    for (let run = 0; run < runs; run++) measured.push(await measure());
    const row = medians(measured, 1);
    results.push({ name, ...row });
    console.error(name, row);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
console.error(`\n${table(results)}`);
console.log(JSON.stringify({ runs, results }, null, 2));
process.exit(0);
