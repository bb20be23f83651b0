import { createHash, randomUUID } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/** Where things that are slow to make are kept between checkouts. */
export function cacheRoot(env: NodeJS.ProcessEnv = process.env): string {
  return env["TYPEVISOR_CACHE"] ?? join(homedir(), ".cache", "typevisor");
}

/**
 * The directory that `make` fills for this `key`, made once. It appears whole or not at all,
 * and replaces those of the same kind with other keys, so that the cache does not grow.
 */
export async function cachedDirectory(
  kind: string,
  key: string,
  make: (directory: string) => Promise<void>,
): Promise<string> {
  const parent = join(cacheRoot(), kind);
  const final = join(parent, key);
  if (existsSync(final)) return final;
  const scratch = join(parent, `.${randomUUID()}`);
  await mkdir(scratch, { recursive: true });
  try {
    await make(scratch);
    await rename(scratch, final);
  } catch (error) {
    await rm(scratch, { recursive: true, force: true });
    throw error;
  }
  for (const name of await readdir(parent)) {
    if (name !== key) await rm(join(parent, name), { recursive: true, force: true });
  }
  return final;
}

/** Hash over values and the contents of files and directories: equal inputs, equal key. */
export async function keyOf(inputs: readonly KeyInput[]): Promise<string> {
  const hash = createHash("sha256");
  for (const input of inputs) {
    if ("value" in input) hash.update(`${JSON.stringify(input.value)}\n`);
    else await hashPath(hash, input.path, "");
  }
  return hash.digest("hex").slice(0, 24);
}

export type KeyInput = { readonly value: unknown } | { readonly path: string };

async function hashPath(hash: ReturnType<typeof createHash>, path: string, relative: string): Promise<void> {
  const { mode } = await stat(path);
  hash.update(`${relative} ${mode.toString(8)}\n`);
  if ((mode & 0o170000) === 0o040000) {
    for (const name of (await readdir(path)).sort()) await hashPath(hash, join(path, name), join(relative, name));
  } else {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  }
}
