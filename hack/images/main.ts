import { existsSync, readdirSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ensureDebianPackages } from "../lib/debian-packages.ts";
import { withLock } from "../lib/lock.ts";
import { writeOciArchive } from "../lib/oci.ts";
import { say } from "../lib/step.ts";
import { containerDisk } from "./containerdisk.ts";
import { launcher, operator, versionBeforeImages } from "./containers.ts";
import { debian } from "./debian.ts";
import { debianCloud } from "./debian-cloud.ts";
import { DebianRelease } from "./debian-packages.ts";
import { firmwareSuite } from "./firmware.ts";
import { hello } from "./hello.ts";
import { type ImageRecipe, type ImageTools, suite } from "./image.ts";
import { type KeyInput, keyOf } from "./key.ts";
import { testguest } from "./testguest.ts";
import { toolbox } from "./toolbox.ts";

const repository = join(import.meta.dirname, "..", "..");
const outDir = join(repository, "dist", "images");
const recipes = [
  launcher,
  operator,
  testguest,
  hello,
  debian,
  debianCloud,
  toolbox,
  containerDisk,
  ...versionBeforeImages,
];

const usage = `usage: hack/images/build [--update] [--force] [NAME...]
Writes OCI archives to dist/images, each only when its inputs changed.
  --update   ask Debian for newer packages
  --force    write archives even if nothing changed
${recipes.map(({ name, about }) => `  ${name.padEnd(15)} ${about}`).join("\n")}`;

/** What stands beside an archive: from which inputs it was made, and what it is. */
interface Stamp {
  readonly key: string;
  readonly name: string;
  readonly digest: string;
  readonly sizeBytes: number;
}

async function buildImage(recipe: ImageRecipe, tools: ImageTools, force: boolean): Promise<Stamp> {
  const archive = join(outDir, `${recipe.name}.tar`);
  const stampFile = join(outDir, `${recipe.name}.json`);
  const key = await keyOf([...ownCode(), ...(await recipe.inputs(tools))]);
  if (!force && existsSync(archive) && existsSync(stampFile)) {
    const stamp = JSON.parse(await readFile(stampFile, "utf8")) as Stamp;
    if (stamp.key === key) return stamp;
  }
  const startedMs = Date.now();
  const image = await recipe.make(tools);
  const written = await writeOciArchive({ name: `typevisor/${recipe.name}:dev`, ...image }, archive);
  const stamp: Stamp = { key, ...written };
  await writeFile(stampFile, `${JSON.stringify(stamp, null, 2)}\n`);
  tools.say(`${written.name}: ${mebibytes(written.sizeBytes)} MiB, ${((Date.now() - startedMs) / 1000).toFixed(1)} s`);
  return stamp;
}

/** What decides how images are made: this folder, and the writer of archives. */
function ownCode(): KeyInput[] {
  const files = readdirSync(import.meta.dirname, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts"))
    .map((entry) => join(entry.parentPath, entry.name));
  const writer = ["oci.ts", "oci-layer.ts"].map((name) => join(repository, "hack/lib", name));
  return [...files.sort(), ...writer].map((path) => ({ path }));
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { update: { type: "boolean" }, force: { type: "boolean" }, help: { type: "boolean" } },
  });
  if (values.help) return console.log(usage);
  const unknown = positionals.filter((name) => !recipes.some((recipe) => recipe.name === name));
  if (unknown.length > 0) throw new Error(`no image named ${unknown.join(", ")}\n${usage}`);
  const wanted = recipes.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  await ensureDebianPackages(join(import.meta.dirname, "packages.txt"));
  const tools: ImageTools = { debian: new DebianRelease(suite), repository, say };
  // Two builds at once would do the same work twice.
  await withLock("images", 30 * 60_000, async () => {
    if (values.update) for (const release of [tools.debian, new DebianRelease(firmwareSuite)]) await release.update();
    for (const recipe of wanted) await buildImage(recipe, tools, values.force ?? false);
  });
}

await main().catch((error: Error) => {
  console.error(`hack/images/build: ${error.message}`);
  process.exitCode = 1;
});
