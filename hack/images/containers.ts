import { existsSync } from "node:fs";
import { join } from "node:path";
import { LAUNCHER_COMMANDS } from "../lib/launcher-commands.ts";
import type { OciFile, OciLayer } from "../lib/oci.ts";
import { firmwareInputs, firmwareLayer } from "./firmware.ts";
import { type ImageRecipe, InputMissing } from "./image.ts";
import { nftablesInputs, nftablesLayer } from "./nftables.ts";
import { containerUserId, runtimeInputs, runtimeLayer } from "./runtime.ts";
import { versionBefore } from "./version-before.ts";
import { xzInputs, xzLayer } from "./xz.ts";

interface ContainerParts {
  /** Directory of the program's bundle. */
  bundle(repository: string): Promise<string>;
  /** What stands in the PATH. */
  readonly commands: readonly OciFile[];
  readonly env: Readonly<Record<string, string>>;
  /** More layers, and what they are made of. */
  readonly extra?: readonly { inputs(): Promise<unknown>; layer(): Promise<OciLayer> }[];
}

type Program = "launcher" | "operator";

/** A container of ours: the shared runtime layer, a bundle in /app, and its parts. */
function container(name: string, about: string, made: ContainerParts & { readonly program: Program }): ImageRecipe {
  const { program, bundle, commands, env, extra = [] } = made;
  return {
    name,
    about,
    inputs: async (tools) => [
      { value: [await runtimeInputs(tools), ...(await Promise.all(extra.map((part) => part.inputs())))] },
      { path: await bundle(tools.repository) },
    ],
    make: async (tools) => ({
      layers: [
        await runtimeLayer(tools),
        ...(await Promise.all(extra.map((part) => part.layer()))),
        { dir: await bundle(tools.repository), at: "app" },
        { files: commands },
      ],
      env,
      entrypoint: ["/usr/local/bin/node", `/app/${program}.js`],
      user: `${containerUserId}:${containerUserId}`,
      workdir: "/",
    }),
  };
}

/** Where hack/build leaves a program. */
const built = (program: Program) => async (repository: string) => {
  const path = join(repository, "dist", program);
  if (!existsSync(join(path, `${program}.js`))) throw new InputMissing(`dist/${program}/${program}.js`, "hack/build");
  return path;
};
const before = (program: Program) => async () => join(await versionBefore(), "dist", program);

const launcherParts = {
  program: "launcher",
  commands: LAUNCHER_COMMANDS.map((name) => ({ path: `usr/local/bin/${name}`, symlink: `/app/${name}` })),
  // Each saves memory in every machine's pod: see launcher/src/commands/settle-heap.ts; and one heap for malloc is enough.
  env: { NODE_OPTIONS: "--expose-gc", MALLOC_ARENA_MAX: "1" },
  extra: [
    { inputs: firmwareInputs, layer: firmwareLayer },
    { inputs: xzInputs, layer: xzLayer },
  ],
} as const;
const operatorParts = {
  program: "operator",
  commands: [],
  // A start with many machines would leave 60 MB of young generation behind: see operator/src/controllers/settle-heap.ts.
  env: { NODE_OPTIONS: "--expose-gc --max-semi-space-size=4", MALLOC_ARENA_MAX: "1" },
  extra: [{ inputs: nftablesInputs, layer: nftablesLayer }],
} as const;

export const launcher = container("launcher", "the virtual machine monitor", {
  ...launcherParts,
  bundle: built("launcher"),
});
export const operator = container("operator", "controllers and node agent", {
  ...operatorParts,
  bundle: built("operator"),
});
/** For tests of upgrades. */
export const versionBeforeImages = [
  container("launcher-before", "the launcher of the version before", { ...launcherParts, bundle: before("launcher") }),
  container("operator-before", "the operator of the version before", { ...operatorParts, bundle: before("operator") }),
];
