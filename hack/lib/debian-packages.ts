import { readFile } from "node:fs/promises";
import { withLock } from "./lock.ts";
import { missingPackages, parsePackageList } from "./package-list.ts";
import { run, say, step } from "./step.ts";

/** Needs a person: we are not root, or this is no Debian. */
export class MissingPackagesError extends Error {
  override name = "MissingPackagesError";
  readonly missing: readonly string[];
  constructor(missing: readonly string[]) {
    super(`these Debian packages are missing. Next: as root, run 'apt-get install ${missing.join(" ")}'`);
    this.missing = missing;
  }
}

/** Installs those Debian packages of the list in `file` that the machine lacks; `except` are not wanted after all. */
export async function ensureDebianPackages(file: string, except: readonly string[] = []): Promise<void> {
  const wanted = parsePackageList(await readFile(file, "utf8")).filter((name) => !except.includes(name));
  if ((await missing(wanted)).length === 0) return;
  await withLock("apt", 15 * 60_000, async () => {
    const packages = await missing(wanted);
    if (packages.length === 0) return;
    if (process.getuid?.() !== 0) throw new MissingPackagesError(packages);
    say(`Missing Debian packages: ${packages.join(" ")}`);
    await step(`Installing ${packages.length} Debian packages`, 10 + 3 * packages.length, async () => {
      const options = {
        env: { DEBIAN_FRONTEND: "noninteractive" },
        advice: `check the network and /etc/apt/sources.list, then run 'apt-get install ${packages.join(" ")}'`,
      };
      await run(["apt-get", "update"], options);
      await run(["apt-get", "install", "-y", "--no-install-recommends", ...packages], options);
    });
  });
}

async function missing(wanted: readonly string[]): Promise<string[]> {
  const format = "$" + "{Package} $" + "{db:Status-Status}\\n";
  return missingPackages(wanted, await run(["dpkg-query", "-W", "-f", format]));
}
