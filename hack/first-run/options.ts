import { parseArgs } from "node:util";

export const usage = `usage: hack/quickstart [--nodes native|qemu | --context NAME [--load-command COMMAND]]
       hack/quickstart --down [--context NAME]

Brings up a cluster, installs Typevisor in it, and boots a virtual machine. Run again, it changes only what is not right.

  --nodes KIND            the built-in cluster, with this machine as its node (native), or with node VMs (qemu)
  --context NAME          an existing cluster, by its kubeconfig context
  --load-command COMMAND  how image archives get to that cluster's nodes: run by sh for each, with its path as $1
  --down                  removes all that was brought up; of an existing cluster, only what was installed in it

Without an option: kind, where a container engine and kind are there and /dev/kvm is fit for Linux; otherwise the
built-in cluster.
`;

export interface Options {
  readonly down: boolean;
  readonly nodes?: "native" | "qemu";
  readonly context?: string;
  readonly loadCommand?: string;
  readonly help: boolean;
}

/** The command line is wrong; nothing was done. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** Reads the command line; throws a UsageError that says what is wrong with it. */
export function parseOptions(argv: readonly string[]): Options {
  const { values } = parse(argv);
  const { nodes, context } = values;
  const loadCommand = values["load-command"];
  if (nodes !== undefined && nodes !== "native" && nodes !== "qemu") {
    throw new UsageError(`--nodes takes native or qemu, not '${nodes}'`);
  }
  if (nodes !== undefined && context !== undefined) {
    throw new UsageError("--nodes makes a cluster, --context takes one that exists: give one of them");
  }
  if (loadCommand !== undefined && context === undefined) {
    throw new UsageError("--load-command goes with --context: other clusters get their images by themselves");
  }
  return {
    down: values.down ?? false,
    help: values.help ?? false,
    ...(nodes === undefined ? {} : { nodes }),
    ...(context === undefined ? {} : { context }),
    ...(loadCommand === undefined ? {} : { loadCommand }),
  };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        down: { type: "boolean" },
        nodes: { type: "string" },
        context: { type: "string" },
        "load-command": { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
