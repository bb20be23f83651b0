import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { missingPackages, parsePackageList } from "./packages.ts";

const root = join(import.meta.dirname, "..", "..");

/** What each tier needs before its tests run; every step does nothing when its result is up to date. */
const steps: Readonly<Record<string, readonly string[][]>> = {
  unit: [],
  kvm: [["hack/build-native"], ["hack/build-testguest"]],
  linux: [
    ["hack/build", "launcher"],
    ["hack/images/build", "guest-hello", "guest-debian"],
    ["hack/linux-lab/lab", "up"],
  ],
  e2e: [["hack/build-native"], ["hack/build-testguest"], ["hack/build"], ["hack/images/build"]],
};

function installPackages(): void {
  const wanted = parsePackageList(readFileSync(join(root, "hack", "test-packages.txt"), "utf8"));
  const installed = execFileSync("dpkg-query", ["-W", "-f", "${Package} ${db:Status-Status}\n"], { encoding: "utf8" });
  const missing = missingPackages(wanted, installed);
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0) {
    console.error(`tests need these Debian packages: sudo apt-get install ${missing.join(" ")}`);
    process.exit(1);
  }
  console.log(`installing ${missing.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  execFileSync("apt-get", ["update", "-q"], { stdio: "inherit", env });
  execFileSync("apt-get", ["install", "-qy", "--no-install-recommends", ...missing], { stdio: "inherit", env });
}

const tier = process.argv[2] ?? "";
const commands = steps[tier];
if (commands === undefined) {
  console.error(`usage: hack/setup ${Object.keys(steps).join("|")}`);
  process.exit(2);
}
installPackages();
for (const [command = "", ...args] of commands)
  execFileSync(join(root, command), args, { stdio: "inherit", cwd: root });
