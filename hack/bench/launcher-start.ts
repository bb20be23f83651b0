/**
 * How long a launcher takes from its process's start to the guest's first instruction, and what it keeps in memory
 * beside guest RAM, for 1 and 8 vCPUs, with the test guest. Build first: hack/build launcher && hack/build-testguest.
 *
 *   node hack/bench/launcher-start.ts [RUNS]        a table on standard error, JSON on standard output
 */
import { setTimeout as delay } from "node:timers/promises";
import { processMemory, SETTLED_MS, testGuestConfig, withLauncher } from "./bench-launcher.ts";
import { mebibytes, median, round } from "./statistics.ts";

const runs = Number(process.argv[2] ?? 5);

const results = [];
for (const cpus of [1, 8]) {
  const launch = { config: (directory: string) => testGuestConfig(directory, cpus) };
  const samples: Record<string, number[]> = {};
  for (let i = 0; i < runs; i++) {
    const milestones = await withLauncher(launch, async ({ status }) => status.milestones);
    for (const [step, ms] of Object.entries(milestones)) samples[step] = [...(samples[step] ?? []), ms];
  }
  const milestonesMs = Object.fromEntries(
    Object.entries(samples).map(([step, list]) => [step, round(median(list), 1)]),
  );
  const memory = await withLauncher(launch, async ({ pid }) => {
    await delay(SETTLED_MS);
    const { privateBytes, residentBytes } = processMemory(pid);
    return { privateMiB: mebibytes(privateBytes), residentMiB: mebibytes(residentBytes) };
  });
  results.push({ cpus, milestonesMs, ...memory });
  const steps = Object.entries(milestonesMs).map(([step, ms]) => `${step} ${ms}`);
  console.error(`${cpus} vCPU: ms since process start: ${steps.join(", ")}; ${memory.privateMiB} MiB private`);
}
console.log(JSON.stringify({ runs, results }, null, 2));
