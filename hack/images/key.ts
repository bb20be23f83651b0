import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

/** A value, or a file or directory that counts by what is in it. */
export type KeyInput = { readonly value: unknown } | { readonly path: string };

/** Hash over values and the contents of files and directories: equal inputs, equal key. */
export async function keyOf(inputs: readonly KeyInput[]): Promise<string> {
  const hash = createHash("sha256");
  for (const input of inputs) {
    if ("value" in input) hash.update(`${JSON.stringify(input.value)}\n`);
    else await hashPath(hash, input.path, "");
  }
  return hash.digest("hex").slice(0, 16);
}

async function hashPath(hash: Hash, path: string, relative: string): Promise<void> {
  const status = await stat(path);
  hash.update(`${relative} ${status.mode.toString(8)} ${status.isFile() ? status.size : ""}\n`);
  if (status.isDirectory()) {
    for (const name of (await readdir(path)).sort()) await hashPath(hash, join(path, name), join(relative, name));
  } else {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  }
}
