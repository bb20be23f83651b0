import { bundleCli } from "./cli.ts";
import { bundleLauncher } from "./launcher.ts";
import { bundleOperator } from "./operator.ts";

const bundles: Readonly<Record<string, () => Promise<void>>> = {
  launcher: bundleLauncher,
  operator: bundleOperator,
  cli: bundleCli,
};

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(bundles);
const unknown = wanted.find((name) => !Object.hasOwn(bundles, name));
if (unknown !== undefined) {
  process.stderr.write(`hack/build: there is no bundle ${unknown}; known are ${Object.keys(bundles).join(", ")}\n`);
  process.exit(2);
}
for (const name of wanted) await bundles[name]?.();
