import { Output } from "./output.ts";
import { addTallies, type Tally } from "./tally.ts";
import { TierRun } from "./tier-run.ts";
import { type Tier, tiers } from "./tiers.ts";

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !tiers.some((tier) => tier.name === name));
if (unknown.length > 0) {
  console.error(`unknown tier: ${unknown.join(", ")}; there are ${tiers.map((tier) => tier.name).join(", ")}`);
  process.exit(2);
}

const chosen = tiers.filter((tier) => asked.length === 0 || asked.includes(tier.name));
const lanes = Map.groupBy(chosen, ({ lane }) => lane);

async function runLane(lane: readonly Tier[]): Promise<Tally> {
  let total: Tally = { passed: 0, failed: 0, skipped: 0 };
  for (const tier of lane) {
    const run = new TierRun(tier, new Output(lanes.size > 1 ? tier.name : null));
    total = addTallies(total, await run.run());
  }
  return total;
}

const ahead = [...lanes.values()].flatMap(([_, ...later]) => later.flatMap((tier) => (tier.ahead ? [tier.ahead] : [])));
for (const command of new Set(ahead)) new Output(null).start(command);
const total = (await Promise.all([...lanes.values()].map(runLane))).reduce(addTallies);
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`\n${total.passed} passed, ${total.failed} failed${skipped}`);
// At once: what a test has left behind may hold an output that we read.
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
