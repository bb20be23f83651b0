import { parseArgs } from "node:util";

/** Where a machine starts from: its kernel or firmware, or where another launcher left it. */
export type Origin = { readonly kind: "boot" } | { readonly kind: "suspended"; readonly directory: string };

export interface RunOptions {
  readonly configPath: string;
  readonly origin: Origin;
}

/** Throws TypeError, with a sentence, for what is not an option. */
export function parseRunOptions(args: readonly string[]): RunOptions {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { restore: { type: "string" } },
    allowPositionals: true,
  });
  const [configPath, ...more] = positionals;
  if (configPath === undefined || more.length > 0) throw new TypeError("run takes the path of one machine.json");
  const { restore } = values;
  return { configPath, origin: restore === undefined ? { kind: "boot" } : { kind: "suspended", directory: restore } };
}
