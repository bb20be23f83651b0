import type { Command, Option } from "commander";
import type { KubernetesObject } from "../../../operator/src/runtime/wire.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterOptions, Environment } from "../environment.ts";

/** What a shell offers; `about` is shown beside it where the shell can. */
interface Candidate {
  readonly value: string;
  readonly about?: string;
}

/** Directives of cobra's completion protocol, which kubectl speaks with kubectl_complete-vm. */
const NO_FILES = 4;
const FILES = 0;
const ANSWER_WITHIN_MS = 2_000;

/** Answers for the words behind the program's name, of which the last, perhaps "", is to be completed. */
export async function complete(program: Command, words: readonly string[], environment: Environment): Promise<string> {
  const typed = words.at(-1) ?? "";
  const line = new CommandLine(program, words.slice(0, -1));
  const found = await candidates(line, typed, environment);
  const lines = (found ?? [])
    .filter(({ value }) => value.startsWith(typed))
    .map(({ value, about }) => (about === undefined ? value : `${value}\t${about}`));
  return [...lines, `:${found === undefined ? FILES : NO_FILES}`, ""].join("\n");
}

/** Undefined where it is a file's name. */
async function candidates(
  line: CommandLine,
  typed: string,
  environment: Environment,
): Promise<readonly Candidate[] | undefined> {
  if (line.pending !== undefined) return valuesOf(line.pending, line, environment);
  if (typed.startsWith("-")) {
    return line.options.map(({ long, short, description }) => ({ value: long ?? short ?? "", about: description }));
  }
  if (line.command === undefined) {
    return line.program.commands
      .filter((command) => !isHidden(command))
      .map((command) => ({ value: command.name(), about: command.summary() || command.description() }));
  }
  if (line.command.name() === "completion") return [{ value: "bash" }, { value: "zsh" }];
  const [first] = line.command.registeredArguments;
  const wanted = first !== undefined && (first.variadic || line.operands.length === 0);
  return wanted ? machineNames(line, typed, environment) : [];
}

function valuesOf(
  option: Option,
  line: CommandLine,
  environment: Environment,
): Promise<readonly Candidate[] | undefined> | readonly Candidate[] | undefined {
  if (option.argChoices !== undefined) return option.argChoices.map((value) => ({ value }));
  switch (option.long) {
    case "--kubeconfig":
    case "--identity-file":
      return undefined;
    case "--context":
      return contexts(line, environment);
    case "--namespace":
      return namespaces(line, environment);
    case "--to":
      return nodes(line, environment);
    case "--target-claim":
      return targetClaims(line, environment);
    default:
      return [];
  }
}

/** A command line as far as it is typed. */
class CommandLine {
  readonly program: Command;
  readonly command: Command | undefined;
  readonly operands: readonly string[];
  /** The option whose value comes next. */
  readonly pending: Option | undefined;
  readonly cluster: ClusterOptions;

  constructor(program: Command, words: readonly string[]) {
    this.program = program;
    let command: Command | undefined;
    let pending: Option | undefined;
    const operands: string[] = [];
    const given: Record<string, string> = {};
    for (const word of words) {
      if (pending !== undefined) {
        given[pending.attributeName()] = word;
        pending = undefined;
      } else if (word.startsWith("-")) {
        const [flag, value] = word.split("=", 2);
        const option = optionsOf(program, command).find(({ short, long }) => flag === short || flag === long);
        if (option?.required === true && value === undefined) pending = option;
        else if (option !== undefined && value !== undefined) given[option.attributeName()] = value;
      } else if (command === undefined) command = program.commands.find((each) => each.name() === word);
      else operands.push(word);
    }
    this.command = command;
    this.pending = pending;
    this.operands = operands;
    this.cluster = given;
  }

  get options(): readonly Option[] {
    return optionsOf(this.program, this.command);
  }
}

function optionsOf(program: Command, command: Command | undefined): Option[] {
  return [...(command?.options ?? []), ...program.options];
}

function isHidden(command: Command): boolean {
  return command.name().startsWith("__");
}

function machineNames(line: CommandLine, typed: string, environment: Environment): Promise<Candidate[]> {
  const user = line.command?.name() === "ssh" ? typed.slice(0, typed.lastIndexOf("@") + 1) : "";
  return inCluster(line, environment, async ({ client, namespace }) => {
    const { virtualMachines } = await import("../../../operator/src/controllers/virtualmachine/names.ts");
    const names = namesOf(await client.list(virtualMachines, { namespace, ...deadline() }));
    return names.filter((name) => !line.operands.includes(name)).map((name) => ({ value: user + name }));
  });
}

function namespaces(line: CommandLine, environment: Environment): Promise<Candidate[]> {
  const resource = { group: "", version: "v1", plural: "namespaces", kind: "Namespace", namespaced: false };
  return inCluster(line, environment, async ({ client }) =>
    namesOf(await client.list(resource, deadline())).map((value) => ({ value })),
  );
}

function nodes(line: CommandLine, environment: Environment): Promise<Candidate[]> {
  return inCluster(line, environment, async ({ client }) => {
    const { resources } = await import("../../../operator/src/runtime/wire.ts");
    return namesOf(await client.list(resources.nodes, deadline())).map((value) => ({ value }));
  });
}

/** Disks of the machine that are on claims, each with the claims of the namespace that no disk of it is on. */
function targetClaims(line: CommandLine, environment: Environment): Promise<Candidate[]> {
  return inCluster(line, environment, async (cluster) => {
    const { resources } = await import("../../../operator/src/runtime/wire.ts");
    const { getMachine } = await import("../cluster/machines.ts");
    const { spec } = await getMachine(cluster, line.operands[0] ?? "");
    const selection = { namespace: cluster.namespace, ...deadline() };
    const claims = namesOf(await cluster.client.list(resources.persistentVolumeClaims, selection));
    const own = spec.disks.flatMap(({ name, persistentVolumeClaim }) =>
      persistentVolumeClaim ? [{ name, claimName: persistentVolumeClaim.claimName }] : [],
    );
    const others = claims.filter((claim) => !own.some(({ claimName }) => claimName === claim));
    return own.flatMap(({ name }) => others.map((claim) => ({ value: `${name}=${claim}` })));
  });
}

/** Candidates that a cluster knows. What it takes to ask one is loaded then: most completions need none. */
async function inCluster(
  line: CommandLine,
  environment: Environment,
  ask: (cluster: Cluster) => Promise<Candidate[]>,
): Promise<Candidate[]> {
  const { openCluster } = await import("../cluster/cluster.ts");
  return quietly(async () => {
    using cluster = openCluster(line.cluster, environment);
    return await ask(cluster);
  });
}

function namesOf({ items }: { readonly items: readonly KubernetesObject[] }): string[] {
  return items.map(({ metadata }) => metadata?.name ?? "");
}

async function contexts(line: CommandLine, environment: Environment): Promise<Candidate[]> {
  const { contextNames } = await import("../cluster/cluster.ts");
  return quietly(async () => contextNames(line.cluster, environment).map((value) => ({ value })));
}

function deadline(): { readonly signal: AbortSignal } {
  return { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) };
}

/** A cluster that cannot be asked offers nothing: an error would land in the middle of what the user types. */
async function quietly(ask: () => Promise<Candidate[]>): Promise<Candidate[]> {
  try {
    return await ask();
  } catch {
    return [];
  }
}
