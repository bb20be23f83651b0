import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { LAUNCHER_COMMANDS } from "../lib/launcher-commands.ts";
import { bundle, copyInto, putFile, repository } from "./bundle.ts";

/** In the image /usr/local/bin/NAME leads here; Node resolves the link, so the bundle is found beside it. */
const commandFile = (name: string) => `#!/usr/local/bin/node
process.argv.splice(2, 0, "${name}");
require("./launcher.js");
`;

/** dist/launcher: the bundle, that of a migration's threads, two native files, and commands of their own. */
export async function bundleLauncher(): Promise<void> {
  await bundle("launcher/src/main.ts", "dist/launcher/launcher.js");
  await bundle("launcher/src/migration/worker/main.ts", "dist/launcher/migration-worker.js");
  const koffi = createRequire(import.meta.url).resolve("@koromix/koffi-linux-x64/linux_x64/koffi.node");
  copyInto(koffi, "dist/launcher/koffi.node");
  execFileSync(join(repository, "hack/build-native"), { stdio: "inherit" });
  for (const name of LAUNCHER_COMMANDS) putFile(`dist/launcher/${name}`, commandFile(name), 0o755);
}
