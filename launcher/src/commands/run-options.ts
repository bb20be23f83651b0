import { parseArgs } from "node:util";

/** Where a machine starts from: its kernel or firmware, or where another launcher left it. */
export type Origin =
  | { readonly kind: "boot" }
  | { readonly kind: "suspended"; readonly directory: string }
  /** It comes by migration. */
  | { readonly kind: "migrated" };

export interface RunOptions {
  readonly configPath: string;
  readonly origin: Origin;
}

/** Throws TypeError, with a sentence, for what is not an option. */
export function parseRunOptions(args: readonly string[]): RunOptions {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { restore: { type: "string" }, receive: { type: "boolean" } },
    allowPositionals: true,
  });
  const [configPath, ...more] = positionals;
  if (configPath === undefined || more.length > 0) throw new TypeError("run takes the path of one machine.json");
  return { configPath, origin: originOf(values) };
}

function originOf({
  restore,
  receive = false,
}: {
  restore?: string | undefined;
  receive?: boolean | undefined;
}): Origin {
  if (restore !== undefined && receive) throw new TypeError("a machine comes from --restore or by --receive, not both");
  if (receive) return { kind: "migrated" };
  return restore === undefined ? { kind: "boot" } : { kind: "suspended", directory: restore };
}
