import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeOciArchive } from "../../lib/oci.ts";
import { run } from "../../lib/step.ts";
import { cached } from "../tools/cache.ts";

export const pauseImage = "docker.io/typevisor/pause:1";

const source = join(import.meta.dirname, "pause.c");

/** An OCI archive with the container that holds a pod's namespaces. */
export async function ensurePauseArchive(): Promise<string> {
  const hash = createHash("sha256")
    .update(await readFile(source))
    .digest("hex");
  const dir = await cached({
    key: `pause-${hash.slice(0, 8)}`,
    title: "Building the pause image",
    estimateSeconds: 1,
    async build(into, logFile) {
      const program = join(into, "pause");
      const flags = ["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-Os", "-s", "-Wall", "-Werror"];
      await run(["gcc", ...flags, "-o", program, source], { logFile, advice: "install gcc" });
      const files = [{ path: "pause", source: program, mode: 0o755 }];
      const image = { name: pauseImage, layers: [{ files }], entrypoint: ["/pause"], user: "65535:65535" };
      await writeOciArchive(image, join(into, "pause.tar"));
    },
  });
  return join(dir, "pause.tar");
}
