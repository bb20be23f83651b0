import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Output } from "./output.ts";
import { type JestReport, type Tally, tallyCommands, tallyJest } from "./tally.ts";
import type { Tier } from "./tiers.ts";

/** Jest ends by itself after its report, unless a test has left something open, which is a failure and must not be a wait. */
const LINGER_MS = 60_000;
const inCi = process.env["CI"] === "true";

/** One run of a tier: prepares, tests, cleans up. */
export class TierRun {
  readonly #tier: Tier;
  readonly #output: Output;
  constructor(tier: Tier, output: Output) {
    this.#tier = tier;
    this.#output = output;
  }

  async run(): Promise<Tally> {
    const startedMs = Date.now();
    const { name, about } = this.#tier;
    this.#output.say(`=== ${name}: ${about}`);
    const { passed, failed, skipped } = await this.#whole();
    const seconds = Math.round((Date.now() - startedMs) / 1000);
    this.#output.say(`=== ${name}: ${passed} ok, ${failed} not ok, ${skipped} left out, ${seconds} s`);
    return { passed, failed, skipped };
  }

  async #whole(): Promise<Tally> {
    const { name, obstacle, prepare, cleanUp } = this.#tier;
    const why = obstacle();
    if (why !== null) {
      this.#output.say(`${name}: cannot run here: ${why}`);
      return inCi ? { passed: 0, failed: 1, skipped: 0 } : { passed: 0, failed: 0, skipped: 1 };
    }
    try {
      for (const command of prepare) {
        if ((await this.#output.run(command)) !== 0) {
          this.#output.say(`${name}: not run, since this failed: ${command.join(" ")}`);
          return { passed: 0, failed: 1, skipped: 0 };
        }
      }
      return await this.#tests();
    } finally {
      for (const command of cleanUp ?? []) await this.#output.run(command);
    }
  }

  #tests(): Promise<Tally> {
    const { run } = this.#tier;
    return run.kind === "jest" ? this.#jest(run.project, run.inBand) : this.#commands(run.commands);
  }

  async #jest(project: string, inBand: boolean): Promise<Tally> {
    const folder = mkdtempSync(join(tmpdir(), "typevisor-test-"));
    const reportPath = join(folder, "report.json");
    const command = [
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
    ];
    const lingers = new AbortController();
    const watch = setInterval(() => {
      const reportedMs = statSync(reportPath, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
      if (Date.now() - reportedMs > LINGER_MS) lingers.abort();
    }, 1000);
    try {
      const code = await this.#output.run(command, lingers.signal);
      if (!existsSync(reportPath)) return { passed: 0, failed: 1, skipped: 0 };
      return tallyJest(JSON.parse(readFileSync(reportPath, "utf8")) as JestReport, code, inCi);
    } finally {
      clearInterval(watch);
      rmSync(folder, { recursive: true, force: true });
    }
  }

  async #commands(commands: readonly string[][]): Promise<Tally> {
    const codes: number[] = [];
    for (const command of commands) {
      const code = await this.#output.run(command);
      this.#output.say(`${code === 0 ? "ok" : "FAILED"}: ${command.join(" ")}`);
      codes.push(code);
    }
    return tallyCommands(codes);
  }
}
