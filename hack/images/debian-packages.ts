import { existsSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "../dev-cluster/tools/cache.ts";
import { type RunOptions, run } from "../lib/step.ts";
import { debianSources } from "./debian-mirror.ts";

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** Names of the packages that it depends on; of alternatives, the first. */
  readonly depends: readonly string[];
}

/**
 * One release of Debian, looked at through an apt of our own beside the machine's: packages are downloaded and
 * unpacked, nothing is installed. Versions stay what they were when the lists were fetched, until `update`.
 */
export class DebianRelease {
  readonly suite: string;
  readonly #root: string;

  constructor(suite: string) {
    this.suite = suite;
    this.#root = join(cacheDir(), `apt-${suite}`);
  }

  /** The version of each package that would be used now, in the order asked. */
  async resolve(names: readonly string[]): Promise<DebianPackage[]> {
    await this.#prepare();
    const shown = parseStanzas(await this.#apt(["apt-cache", "show", "--no-all-versions", ...names]));
    return names.map((name) => {
      const found = shown.find((entry) => entry.name === name);
      if (!found) throw new Error(`Debian ${this.suite} has no package '${name}'`);
      return found;
    });
  }

  /** Unpacks packages, without their dependencies and without running their scripts, into `directory`. */
  async unpack(packages: readonly DebianPackage[], directory: string): Promise<void> {
    const downloads = join(directory, ".downloads");
    await mkdir(downloads, { recursive: true });
    const wanted = packages.map(({ name, version }) => `${name}=${version}`);
    await this.#apt(["apt-get", "download", ...wanted], {
      cwd: downloads,
      advice: "if the mirror has moved on, 'hack/images/build --update' asks for newer packages",
    });
    for (const name of (await readdir(downloads)).sort()) {
      await run(["dpkg-deb", "--extract", join(downloads, name), directory]);
    }
    await rm(downloads, { recursive: true });
  }

  /** Fetches the package lists again. */
  async update(): Promise<void> {
    await rm(join(this.#root, "ready"), { force: true });
    await this.#prepare();
  }

  async #prepare(): Promise<void> {
    const ready = join(this.#root, "ready");
    if (existsSync(ready)) return;
    await mkdir(join(this.#root, "lists", "partial"), { recursive: true });
    await mkdir(join(this.#root, "archives", "partial"), { recursive: true });
    await writeFile(join(this.#root, "status"), "");
    await writeFile(join(this.#root, "sources.list"), `${(await debianSources(this.suite)).join("\n")}\n`);
    await writeFile(join(this.#root, "apt.conf"), aptConfiguration(this.#root));
    await this.#apt(["apt-get", "update"]);
    await writeFile(ready, "");
  }

  #apt(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return run(argv, { ...options, env: { APT_CONFIG: join(this.#root, "apt.conf"), LC_ALL: "C" } });
  }
}

function aptConfiguration(root: string): string {
  return [
    `Dir::State "${root}";`,
    `Dir::State::status "${root}/status";`,
    `Dir::Cache "${root}";`,
    `Dir::Etc::sourcelist "${root}/sources.list";`,
    'Dir::Etc::sourceparts "/dev/null";',
    'Dir::Etc::preferencesparts "/dev/null";',
    'APT::Architecture "amd64";',
    'APT::Architectures "amd64";',
    'APT::Sandbox::User "";',
    'Acquire::Languages "none";',
    "",
  ].join("\n");
}

/** Package records as `apt-cache show` prints them (deb822). */
export function parseStanzas(text: string): DebianPackage[] {
  return text
    .split(/\n\n+/)
    .filter((stanza) => stanza.trim() !== "")
    .map((stanza) => {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(stanza)?.[1] ?? "";
      const depends = field("Depends")
        .split(",")
        .map((clause) => clause.trim().split(/[\s|:]/)[0] ?? "")
        .filter((name) => name !== "");
      return { name: field("Package"), version: field("Version"), depends };
    });
}
