import { chmodSync, copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type BuildOptions, build } from "esbuild";

export const repository = join(import.meta.dirname, "../..");

/** CommonJS starts faster than ES modules, but has no import.meta: these stand for it. */
const importMeta: BuildOptions = {
  define: { "import.meta.dirname": "__dirname", "import.meta.url": "__importMetaUrl" },
  banner: { js: 'const __importMetaUrl = require("node:url").pathToFileURL(__filename).href;' },
};

export interface BundleOptions extends BuildOptions {
  /** First line of a file that people run. */
  readonly shebang?: string;
}

/** Bundles `entry` and all that it imports into one CommonJS file for Node 26. Paths are relative to the repository. */
export async function bundle(entry: string, target: string, options: BundleOptions = {}): Promise<void> {
  const { shebang, ...buildOptions } = options;
  const path = join(repository, target);
  mkdirSync(dirname(path), { recursive: true });
  // Within the repository, whose package.json says that .js files are ES modules.
  putFile(join(dirname(target), "package.json"), '{"type":"commonjs"}\n');
  await build({
    entryPoints: [join(repository, entry)],
    bundle: true,
    platform: "node",
    target: "node26",
    format: "cjs",
    outfile: `${path}.new`,
    minifySyntax: true,
    legalComments: "none",
    logLevel: "warning",
    ...buildOptions,
    define: { ...importMeta.define, TYPEVISOR_VERSION: JSON.stringify(version()), ...options.define },
    banner: { js: [...(shebang === undefined ? [] : [shebang]), importMeta.banner?.["js"]].join("\n") },
  });
  // At once, for whoever runs or packs it at the same time.
  if (shebang !== undefined) chmodSync(`${path}.new`, 0o755);
  renameSync(`${path}.new`, path);
}

export function putFile(target: string, text: string, mode = 0o644): void {
  const path = join(repository, target);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}

export function copyInto(source: string, target: string): void {
  const path = join(repository, target);
  mkdirSync(dirname(path), { recursive: true });
  copyFileSync(source, `${path}.new`);
  renameSync(`${path}.new`, path);
}

function version(): string {
  const packageJson = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as { version: string };
  return packageJson.version;
}
