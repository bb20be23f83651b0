import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { testImages } from "../../e2e/support/install.ts";
import { ensureDebianPackages } from "../lib/debian-packages.ts";

const root = join(import.meta.dirname, "..", "..");

/** A cluster, and what is installed on it. */
const cluster = [
  ["hack/cluster", "build"],
  ["hack/build-testguest"],
  ["hack/build"],
  ["hack/images/build", ...testImages],
];

/** What each tier needs before its tests run; every step does nothing when its result is up to date. */
const steps: Readonly<Record<string, readonly string[][]>> = {
  unit: [["hack/docs/setup"]],
  kvm: [["hack/build-native"], ["hack/build-testguest"]],
  linux: [
    ["hack/build", "launcher"],
    ["hack/images/build", "guest-hello", "guest-debian", "guest-debian-cloud", "toolbox"],
    ["hack/linux-lab/lab", "up"],
  ],
  e2e: [...cluster, ["hack/images/build", "launcher-before", "operator-before"]],
  "e2e-nodes": cluster,
};

const tier = process.argv[2] ?? "";
const commands = steps[tier];
if (commands === undefined) {
  console.error(`usage: hack/setup ${Object.keys(steps).join("|")}`);
  process.exit(2);
}
await ensureDebianPackages(join(root, "hack", "test-packages.txt"));
for (const [command = "", ...args] of commands)
  execFileSync(join(root, command), args, { stdio: "inherit", cwd: root });
