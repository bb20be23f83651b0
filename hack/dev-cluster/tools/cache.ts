import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { withLock } from "../../lib/lock.ts";
import { formatSeconds, step } from "../../lib/step.ts";

/** Where built things are kept between checkouts. */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  return env["TYPEVISOR_CACHE"] || join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "typevisor");
}

export interface Cached {
  /** Names the directory: `<tool>-<version>`. Equal keys must mean equal content. */
  key: string;
  title: string;
  estimateSeconds: number;
  /** Fills the empty directory; logs go to `logFile`. */
  build(dir: string, logFile: string): Promise<void>;
}

/** What nobody asked for in this time is removed when something new is built. */
const UNUSED_DAYS = 14;

/** The directory of a cached thing, built first if it is not there. Two processes never build the same thing at once. */
export async function cached(thing: Cached): Promise<string> {
  const target = join(cacheDir(), thing.key);
  if (existsSync(target)) {
    const now = new Date();
    await utimes(target, now, now);
    return target;
  }
  const timeoutMs = Math.max(60, thing.estimateSeconds * 6) * 1000;
  return withLock(`cache/${target}`, timeoutMs, async () => {
    if (existsSync(target)) return target;
    const partial = `${target}.partial`;
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true });
    await step(`${thing.title}, once for this machine`, thing.estimateSeconds, () =>
      thing.build(partial, join(cacheDir(), "logs", `${thing.key}.log`)),
    );
    // Only a finished directory ever has the final name.
    await rename(partial, target);
    await removeUnused();
    return target;
  });
}

/** Each change of a recipe leaves a directory under the old key; some hold a whole Debian. */
async function removeUnused(): Promise<void> {
  const oldest = Date.now() - UNUSED_DAYS * 24 * 3600 * 1000;
  for (const name of await readdir(cacheDir())) {
    const path = join(cacheDir(), name);
    const found = await stat(path).catch(() => null);
    if (found !== null && found.mtimeMs < oldest) await rm(path, { recursive: true, force: true });
  }
}

export function isCached(thing: Cached): boolean {
  return existsSync(join(cacheDir(), thing.key));
}

/** What is still to be built, for the estimate printed before a long first run. */
export function missingEstimate(things: readonly Cached[]): string | undefined {
  const missing = things.filter((thing) => !isCached(thing));
  if (missing.length === 0) return undefined;
  const seconds = missing.reduce((sum, thing) => sum + thing.estimateSeconds, 0);
  return `${missing.map((thing) => thing.title).join("; ")}: about ${formatSeconds(seconds)} on 2 cores`;
}
