import { parseArgs } from "node:util";
import type { Flavour, IpFamilies } from "./layout.ts";

export const usage = `Usage: hack/cluster COMMAND [OPTIONS]

A development cluster on this machine: real Kubernetes, built from source modules, in namespaces of its own.

Commands:
  up                        make the cluster, or repair it; quick if nothing is to be done
  build                     build the programs of clusters, which 'up' does as well; once for this machine
  down                      remove the cluster and all that belongs to it (built programs stay cached)
  status                    what runs
  kubectl ARGS...           kubectl against the cluster
  helm ARGS...              helm against the cluster
  kubeconfig                path of a kubeconfig for other programs
  load-image FILE.tar...    import OCI archives into every node
  logs [PROGRAM]            log of a program of the cluster; without a name, their list
  ssh NODE [COMMAND...]     run a command on a node
  copy FILE NODE:PATH       copy a file to a node
  measure-kvm               how fast /dev/kvm runs a guest's kernel, and what follows

Options:
  --name NAME               which cluster; default: $TYPEVISOR_CLUSTER, else the one last brought up, else dev-FLAVOUR
  --nodes native|qemu       native: this machine is the node; qemu: node VMs. Default: native where /dev/kvm runs a
                            guest's kernel at full speed
  --workers N               node VMs (qemu only), default 2
  --node-memory SIZE        memory of a node VM, default 3G
  --multus                  pods get networks by Multus, too; a cluster that is there gets it as well
  --network-policies        NetworkPolicies are enforced (qemu only); a cluster that is there enforces them as well
  --ip-families LIST        ipv4, ipv6, ipv4,ipv6 or ipv6,ipv4: what pods and Services have, default ipv4,ipv6
`;

export const networkPoliciesAreQemu =
  "--network-policies is for qemu clusters; what this machine's kernel can do is not known";

/** Nothing was done: the command line is wrong. */
export class UsageError extends Error {
  override name = "UsageError";
}

const commands = [
  "up",
  "build",
  "down",
  "status",
  "kubectl",
  "helm",
  "kubeconfig",
  "load-image",
  "logs",
  "ssh",
  "copy",
  "measure-kvm",
  "help",
] as const;
export type Command = (typeof commands)[number];

export interface CommandLine {
  readonly command: Command;
  readonly name?: string;
  readonly flavour?: Flavour;
  readonly workers?: number;
  readonly nodeMemoryMiB?: number;
  readonly families?: IpFamilies;
  /** Never false: what a cluster has it keeps. */
  readonly multus?: true;
  /** Never false, as above. */
  readonly networkPolicies?: true;
  /** What stands behind the command; untouched for kubectl, helm and ssh. */
  readonly rest: readonly string[];
}

const options = {
  name: { type: "string" },
  nodes: { type: "string" },
  workers: { type: "string" },
  "node-memory": { type: "string" },
  "ip-families": { type: "string" },
  multus: { type: "boolean" },
  "network-policies": { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** Reads the command line; throws a UsageError that says what is wrong with it. */
export function parseCommandLine(argv: readonly string[], env: NodeJS.ProcessEnv = {}): CommandLine {
  const { own, command, passed } = split(argv);
  const { values, positionals } = parse(own);
  if (values.help || command === undefined || command === "help") return { command: "help", rest: [] };
  if (!commands.includes(command as Command)) {
    throw new UsageError(`'${command}' is not a command; the commands are ${commands.join(", ")}`);
  }
  const flavour = parseFlavour(values.nodes);
  const name = parseName(values.name ?? (env["TYPEVISOR_CLUSTER"] || undefined));
  const workers = parseWorkers(values.workers, flavour);
  const nodeMemoryMiB = parseMemory(values["node-memory"]);
  const families = parseFamilies(values["ip-families"]);
  if (values["network-policies"] && flavour === "native") throw new UsageError(networkPoliciesAreQemu);
  return {
    command: command as Command,
    ...(name ? { name } : {}),
    ...(flavour ? { flavour } : {}),
    ...(workers ? { workers } : {}),
    ...(nodeMemoryMiB ? { nodeMemoryMiB } : {}),
    ...(families ? { families } : {}),
    ...(values.multus ? { multus: true } : {}),
    ...(values["network-policies"] ? { networkPolicies: true } : {}),
    rest: [...positionals, ...passed],
  };
}

/** Behind kubectl, helm and ssh nothing is ours; before them, and everywhere around the other commands, options are. */
function split(argv: readonly string[]): { own: string[]; command: string | undefined; passed: string[] } {
  const at = argv.findIndex((arg, index) => !arg.startsWith("-") && !takesValue(argv[index - 1]));
  if (at < 0) return { own: [...argv], command: undefined, passed: [] };
  const command = argv[at];
  const [before, after] = [argv.slice(0, at), argv.slice(at + 1)];
  if (command === "kubectl" || command === "helm" || command === "ssh") {
    return { own: before, command, passed: after[0] === "--" ? after.slice(1) : after };
  }
  return { own: [...before, ...after], command, passed: [] };
}

function takesValue(arg: string | undefined): boolean {
  return (
    arg !== undefined && Object.entries(options).some(([key, { type }]) => arg === `--${key}` && type === "string")
  );
}

function parse(own: string[]) {
  try {
    return parseArgs({ args: own, options, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function parseFlavour(text: string | undefined): Flavour | undefined {
  if (text === undefined || text === "native" || text === "qemu") return text;
  throw new UsageError(`--nodes is 'native' or 'qemu', not '${text}'`);
}

function parseName(text: string | undefined): string | undefined {
  if (text === undefined || /^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$/.test(text)) return text;
  throw new UsageError(`--name is at most 20 small letters, digits and '-', such as dev-native, not '${text}'`);
}

function parseWorkers(text: string | undefined, flavour: Flavour | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (flavour === "native") throw new UsageError("--workers is for --nodes qemu; a native cluster has one node");
  if (/^[1-9]$/.test(text)) return Number(text);
  throw new UsageError(`--workers is a number from 1 to 9, not '${text}'`);
}

const familyLists: Readonly<Record<string, IpFamilies>> = {
  ipv4: ["IPv4"],
  ipv6: ["IPv6"],
  "ipv4,ipv6": ["IPv4", "IPv6"],
  "ipv6,ipv4": ["IPv6", "IPv4"],
};

function parseFamilies(text: string | undefined): IpFamilies | undefined {
  if (text === undefined) return undefined;
  const families = Object.hasOwn(familyLists, text) ? familyLists[text] : undefined;
  if (families !== undefined) return families;
  throw new UsageError(`--ip-families is one of ${Object.keys(familyLists).join(" ")}, not '${text}'`);
}

function parseMemory(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d+)([MG])$/.exec(text);
  const sizeMiB = match ? Number(match[1]) * (match[2] === "G" ? 1024 : 1) : 0;
  if (sizeMiB >= 1024) return sizeMiB;
  throw new UsageError(`--node-memory is a size of at least 1G, such as 3G or 2560M, not '${text}'`);
}
