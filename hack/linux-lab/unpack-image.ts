import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { run } from "../lib/step.ts";

interface Descriptor {
  readonly digest: string;
}

/** Unpacks the layers of an OCI archive over each other into `directory`, as a container runtime would. */
export async function unpackOciArchive(archive: string, directory: string): Promise<void> {
  await mkdir(dirname(directory), { recursive: true });
  const scratch = await mkdtemp(`${directory}.oci-`);
  try {
    await run(["tar", "--extract", "--file", archive, "--directory", scratch]);
    const read = async (path: string) => JSON.parse(await readFile(join(scratch, path), "utf8")) as unknown;
    const index = (await read("index.json")) as { readonly manifests: readonly Descriptor[] };
    const [first] = index.manifests;
    if (!first) throw new Error(`${archive} has no image`);
    const manifest = (await read(blobPath(first))) as { readonly layers: readonly Descriptor[] };
    await mkdir(directory, { recursive: true });
    for (const layer of manifest.layers) {
      await run(["tar", "--extract", "--file", join(scratch, blobPath(layer)), "--directory", directory]);
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function blobPath({ digest }: Descriptor): string {
  return `blobs/${digest.replace(":", "/")}`;
}
