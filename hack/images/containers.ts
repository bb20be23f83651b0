import { existsSync } from "node:fs";
import { join } from "node:path";
import { LAUNCHER_COMMANDS } from "../lib/launcher-commands.ts";
import type { OciFile, OciLayer } from "../lib/oci.ts";
import { firmwareInputs, firmwareLayer } from "./firmware.ts";
import { type ImageRecipe, InputMissing } from "./image.ts";
import { nftablesInputs, nftablesLayer } from "./nftables.ts";
import { containerUserId, runtimeInputs, runtimeLayer } from "./runtime.ts";
import { xzInputs, xzLayer } from "./xz.ts";

interface ContainerParts {
  /** What stands in the PATH. */
  readonly commands: readonly OciFile[];
  readonly env: Readonly<Record<string, string>>;
  /** More layers, and what they are made of. */
  readonly extra?: readonly { inputs(): Promise<unknown>; layer(): Promise<OciLayer> }[];
}

/** A container of ours: the shared runtime layer, a bundle of dist/ in /app, and its parts. */
function container(name: string, about: string, { commands, env, extra = [] }: ContainerParts): ImageRecipe {
  const bundle = (repository: string) => {
    const path = join(repository, "dist", name);
    if (!existsSync(join(path, `${name}.js`))) throw new InputMissing(`dist/${name}/${name}.js`, "hack/build");
    return path;
  };
  return {
    name,
    about,
    inputs: async (tools) => [
      { value: [await runtimeInputs(tools), ...(await Promise.all(extra.map((part) => part.inputs())))] },
      { path: bundle(tools.repository) },
    ],
    make: async (tools) => ({
      layers: [
        await runtimeLayer(tools),
        ...(await Promise.all(extra.map((part) => part.layer()))),
        { dir: bundle(tools.repository), at: "app" },
        { files: commands },
      ],
      env,
      entrypoint: ["/usr/local/bin/node", `/app/${name}.js`],
      user: `${containerUserId}:${containerUserId}`,
      workdir: "/",
    }),
  };
}

export const launcher = container("launcher", "the virtual machine monitor", {
  commands: LAUNCHER_COMMANDS.map((name) => ({ path: `usr/local/bin/${name}`, symlink: `/app/${name}` })),
  // Each saves memory in every machine's pod: see launcher/src/commands/settle-heap.ts; and one heap for malloc is enough.
  env: { NODE_OPTIONS: "--expose-gc", MALLOC_ARENA_MAX: "1" },
  extra: [
    { inputs: firmwareInputs, layer: firmwareLayer },
    { inputs: xzInputs, layer: xzLayer },
  ],
});
export const operator = container("operator", "controllers and node agent", {
  commands: [],
  // A start with many machines would leave 60 MB of young generation behind: see operator/src/controllers/settle-heap.ts.
  env: { NODE_OPTIONS: "--expose-gc --max-semi-space-size=4", MALLOC_ARENA_MAX: "1" },
  extra: [{ inputs: nftablesInputs, layer: nftablesLayer }],
});
