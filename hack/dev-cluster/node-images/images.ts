import { basename, join } from "node:path";
import { keyOf } from "../../images/key.ts";
import { writeOciArchive } from "../../lib/oci.ts";
import { run } from "../../lib/step.ts";
import { cached } from "../tools/cache.ts";

/** An image of one static program, which every node has from the start. */
interface ProgramImage {
  /** Without a tag. */
  readonly repository: string;
  /** A C file beside this one; the program is called as it is. */
  readonly source: string;
  readonly flags: readonly string[];
  /** `uid:gid`; root where it is not said. */
  readonly user?: string;
}

const pause: ProgramImage = {
  repository: "docker.io/typevisor/pause",
  source: "pause.c",
  flags: ["-nostdlib", "-ffreestanding", "-fno-stack-protector"],
  user: "65535:65535",
};
/** Makes and removes directories of volumes. */
const volume: ProgramImage = { repository: "docker.io/typevisor/volume", source: "volume.c", flags: [] };

/** What holds a pod's namespaces. */
export const pauseImage = nameOf(pause);
export const volumeImage = nameOf(volume);

export interface NodeImageArchive {
  readonly name: string;
  /** OCI archive. */
  readonly path: string;
}

/** The images that a node has before any is loaded. */
export async function nodeImageArchives(): Promise<NodeImageArchive[]> {
  const archives: NodeImageArchive[] = [];
  for (const image of [pause, volume]) archives.push({ name: nameOf(image), path: await archiveOf(image) });
  return archives;
}

function nameOf({ repository }: ProgramImage): string {
  return `${repository}:1`;
}

async function archiveOf(image: ProgramImage): Promise<string> {
  const source = join(import.meta.dirname, image.source);
  const name = basename(image.source, ".c");
  const dir = await cached({
    key: `${name}-${await keyOf([{ value: image }, { path: source }])}`,
    title: `Building the ${name} image`,
    estimateSeconds: 1,
    async build(into, logFile) {
      const program = join(into, name);
      const flags = ["-static", ...image.flags, "-Os", "-s", "-Wall", "-Werror"];
      await run(["gcc", ...flags, "-o", program, source], { logFile, advice: "install gcc and libc6-dev" });
      const layers = [{ files: [{ path: name, source: program, mode: 0o755 }] }];
      const user = image.user ? { user: image.user } : {};
      await writeOciArchive(
        { name: nameOf(image), layers, entrypoint: [`/${name}`], ...user },
        join(into, "image.tar"),
      );
    },
  });
  return join(dir, "image.tar");
}
