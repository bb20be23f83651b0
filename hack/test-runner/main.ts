import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JestReport, type Tally, tallyCommands, tallyJest } from "./tally.ts";
import { type Tier, tiers } from "./tiers.ts";

const root = join(import.meta.dirname, "..", "..");
const inCi = process.env["CI"] === "true";

/** Runs a command with our output, answers its exit code (1 where a signal ended it or it could not start). */
function run(argv: readonly string[]): Promise<number> {
  const [command = "", ...args] = argv;
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", (error) => {
      console.error(`${command}: ${error.message}`);
      resolve(1);
    });
    child.on("close", (code) => resolve(code ?? 1));
  });
}

async function runJest(project: string, inBand: boolean): Promise<Tally> {
  const folder = mkdtempSync(join(tmpdir(), "typevisor-test-"));
  const reportPath = join(folder, "report.json");
  try {
    const code = await run([
      process.execPath,
      "--experimental-vm-modules",
      "--disable-warning=ExperimentalWarning",
      "node_modules/jest/bin/jest.js",
      "--selectProjects",
      project,
      "--passWithNoTests",
      "--json",
      `--outputFile=${reportPath}`,
      ...(inBand ? ["--runInBand"] : []),
    ]);
    if (!existsSync(reportPath)) return { passed: 0, failed: 1, skipped: 0 };
    return tallyJest(JSON.parse(readFileSync(reportPath, "utf8")) as JestReport, code, inCi);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function runCommands(commands: readonly string[][]): Promise<Tally> {
  const codes: number[] = [];
  for (const command of commands) {
    const code = await run(command);
    console.log(`${code === 0 ? "ok" : "FAILED"}: ${command.join(" ")}`);
    codes.push(code);
  }
  return tallyCommands(codes);
}

/** Its tier does the same again, which waits for this one, does what is left of it, and tells what is wrong. */
function startMeanwhile([command = "", ...args]: readonly string[]): void {
  console.log(`meanwhile: ${[command, ...args].join(" ")}`);
  const child = spawn(command, args, { cwd: root, stdio: "ignore" });
  child.on("error", () => {});
  child.unref();
}

async function runTier(tier: Tier, chosen: readonly Tier[]): Promise<Tally> {
  const obstacle = tier.obstacle();
  if (obstacle !== null) {
    console.log(`${tier.name}: cannot run here: ${obstacle}`);
    return inCi ? { passed: 0, failed: 1, skipped: 0 } : { passed: 0, failed: 0, skipped: 1 };
  }
  try {
    for (const command of tier.prepare) {
      if ((await run(command)) !== 0) {
        console.log(`${tier.name}: not run, since this failed: ${command.join(" ")}`);
        return { passed: 0, failed: 1, skipped: 0 };
      }
    }
    const { meanwhile } = tier;
    if (meanwhile && chosen.some(({ name }) => name === meanwhile.of)) startMeanwhile(meanwhile.command);
    return tier.run.kind === "jest"
      ? await runJest(tier.run.project, tier.run.inBand)
      : await runCommands(tier.run.commands);
  } finally {
    for (const command of tier.cleanUp ?? []) await run(command);
  }
}

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !tiers.some((tier) => tier.name === name));
if (unknown.length > 0) {
  console.error(`unknown tier: ${unknown.join(", ")}; there are ${tiers.map((tier) => tier.name).join(", ")}`);
  process.exit(2);
}

const total = { passed: 0, failed: 0, skipped: 0 };
const chosen = tiers.filter((tier) => asked.length === 0 || asked.includes(tier.name));
for (const tier of chosen) {
  const startedMs = Date.now();
  console.log(`\n=== ${tier.name}: ${tier.about}`);
  const tally = await runTier(tier, chosen);
  const seconds = Math.round((Date.now() - startedMs) / 1000);
  console.log(`=== ${tier.name}: ${tally.passed} ok, ${tally.failed} not ok, ${tally.skipped} left out, ${seconds} s`);
  total.passed += tally.passed;
  total.failed += tally.failed;
  total.skipped += tally.skipped;
}
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`\n${total.passed} passed, ${total.failed} failed${skipped}`);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
