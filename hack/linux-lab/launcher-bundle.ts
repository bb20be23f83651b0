import { existsSync } from "node:fs";
import { join } from "node:path";
import { keyOf } from "../images/key.ts";

export interface LauncherBundle {
  readonly directory: string;
  /** Stands for what is in it. */
  readonly key: string;
}

/** dist/launcher, as `hack/build` made it. */
export async function requireLauncher(): Promise<LauncherBundle> {
  const directory = join(import.meta.dirname, "..", "..", "dist", "launcher");
  if (!existsSync(join(directory, "launcher.js"))) {
    throw new Error("dist/launcher/launcher.js is missing. Next: hack/build");
  }
  return { directory, key: await keyOf([{ path: directory }]) };
}
