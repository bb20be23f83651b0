import { Command, Option } from "commander";
import { parseDuration, parseDurationWithin, parsePort, parseTargetClaim, parseWhole } from "./arguments.ts";
import type { Cluster } from "./cluster/cluster.ts";
import type { ConsoleOptions } from "./commands/console.ts";
import type { LogsOptions } from "./commands/logs.ts";
import type { CancelOptions, MigrateOptions } from "./commands/migrate.ts";
import type { OutdatedOptions } from "./commands/migrate-outdated.ts";
import type { PowerCall, PowerOptions, StartOptions } from "./commands/power.ts";
import type { TopOptions } from "./commands/top.ts";
import type { ClusterOptions, Environment } from "./environment.ts";
import { CliError, exitCodes } from "./exit-codes.ts";
import { cliVersion } from "./version.ts";

/** What runs a command; the exit code goes to `ended`. */
export interface Run {
  readonly environment: Environment;
  readonly ended: (exitCode: number) => void;
}

type Work<Options> = (cluster: Cluster, options: Options, environment: Environment) => Promise<number | undefined>;
type Power = typeof import("./commands/power.ts");
type PowerAct<Options extends PowerOptions> = (call: PowerCall, options: Options) => Promise<void>;

const EXIT_CODES = `
Exit codes: 0 done; 1 it did not work; 2 wrong usage; 3 no such machine, or it does not run; 4 a right is missing;
5 --wait ended at --timeout; 6 the API server does not answer; 7 doctor found a failure. ssh ends with ssh's own code.`;

/** The commands. Their work is loaded when one runs, so that help and completion of options are quick. */
export function createProgram(run: Run): Command {
  const program = new Command("kubectl vm")
    .description("Starts, stops, reaches and looks into Typevisor's virtual machines.")
    .version(cliVersion, "--version", "print the version")
    .helpOption("-h, --help", "explain a command")
    .option("-n, --namespace <name>", "namespace (default: the context's)")
    .option("--context <name>", "context of the kubeconfig (default: its current one)")
    .option("--kubeconfig <path>", "kubeconfig file (default: $KUBECONFIG, then ~/.kube/config)")
    .configureHelp({ showGlobalOptions: true })
    .addHelpText("after", EXIT_CODES)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => run.environment.stdout.write(text),
      writeErr: (text) => run.environment.stderr.write(text),
      getOutHelpWidth: () => run.environment.stdout.columns ?? 100,
      getErrHelpWidth: () => run.environment.stderr.columns ?? 100,
    });
  addPowerCommands(program, run);
  addMigrationCommands(program, run);
  addAccessCommands(program, run);
  addInsightCommands(program, run);
  addCompletion(program, run);
  return program;
}

/** A command on machines by name or label, that waits if asked; the default timeout in milliseconds, and as it is written. */
function commandOnMachines(program: Command, name: string, about: string, timeout: readonly [number, string]): Command {
  return program
    .command(`${name} [machines...]`)
    .summary(about)
    .option("-l, --selector <labels>", "machines that have these labels, instead of names")
    .option("--wait", "until it is so", false)
    .addOption(
      new Option("--timeout <duration>", "how long --wait waits").argParser(parseDuration).default(...timeout),
    );
}

function addPowerCommands(program: Command, run: Run): void {
  const command = (name: string, about: string) =>
    commandOnMachines(program, name, about, [120_000, "2m"]).addOption(
      new Option("-o, --output <format>", "print the machines as they are then").choices([
        "json",
        "yaml",
        "wide",
        "name",
      ]),
    );
  const force = ["--force", "write the field although a GitOps tool or server-side apply declares it", false] as const;
  const power = <Options extends PowerOptions = PowerOptions>(act: (module: Power) => PowerAct<Options>) =>
    working<Options>(
      run,
      async (cluster, options, environment) => {
        await act(await import("./commands/power.ts"))({ cluster, environment }, options);
        return exitCodes.ok;
      },
      namesAndTimeout,
    );
  command("start", "start machines that are off")
    .description(
      "Starts machines: sets spec.runStrategy to --strategy where it is Halted. A machine that has ended and whose strategy does not start it again is set to Halted and back.",
    )
    .addOption(
      new Option("--strategy <strategy>", "spec.runStrategy to set").choices(["Always", "RerunOnFailure", "Once"]),
    )
    .option("--paused", "start with the guest's processors stopped", false)
    .option(...force)
    .action(power<StartOptions>((module) => module.start));
  command("stop", "power machines off")
    .description(
      "Stops machines: sets spec.runStrategy to Halted. The guest is asked to power off, and switched off after spec.terminationGracePeriodSeconds.",
    )
    .option(...force)
    .action(power((module) => module.stop));
  command("restart", "power machines off and start them again")
    .description(
      "Restarts machines by deleting their pods, gracefully. No spec is written; changes of the spec take effect.",
    )
    .action(power((module) => module.restart));
  command("pause", "stop the guests' processors, keep their memory")
    .description("Pauses machines: sets spec.paused to true.")
    .option(...force)
    .action(power((module) => module.pause));
  command("resume", "let paused guests go on")
    .description("Resumes machines: sets spec.paused to false.")
    .option(...force)
    .action(power((module) => module.resume));
}

function addMigrationCommands(program: Command, run: Run): void {
  const command = (name: string, about: string) => commandOnMachines(program, name, about, [600_000, "10m"]);
  command("migrate", "move machines to another node while they run")
    .description(
      "Makes a VirtualMachineMigration for each machine. Which node it is, is the scheduler's choice unless --to names one. With --outdated: for each one in another launcher than is installed, a few at a time, until all have moved or could not; drains go first.",
    )
    .option("--outdated", "machines in an outdated launcher, instead of names; each is waited for", false)
    .option("-A, --all-namespaces", "with --outdated: in every namespace", false)
    .addOption(
      new Option("--parallel <number>", "with --outdated: so many at the same time, within the cluster's limits")
        .argParser(parseWhole(1))
        .default(2),
    )
    .option("--to <node>", "node to move to")
    .option("--allow-source-node", "it may be another pod on the same node", false)
    .addOption(
      new Option(
        "--target-claim <disk=claim>",
        "empty PersistentVolumeClaim that a disk moves to, for claims that two nodes cannot have; once for each disk",
      ).argParser(parseTargetClaim),
    )
    .option("--bandwidth <quantity>", "most that is sent a second, e.g. 100Mi")
    .addOption(
      new Option("--max-downtime <duration>", "how long the guest may stand still, e.g. 100ms").argParser(
        parseDurationWithin("1ms", "60s"),
      ),
    )
    .addOption(
      new Option("--deadline <duration>", "after this it is given up, and the machine stays where it is").argParser(
        parseDurationWithin("1s", "168h"),
      ),
    )
    .action(
      working<MigrateOptions & OutdatedOptions & { readonly outdated: boolean }>(
        run,
        async (cluster, options, environment) => {
          if (options.outdated) {
            const { migrateOutdated } = await import("./commands/migrate-outdated.ts");
            await migrateOutdated({ cluster, environment }, options);
            return exitCodes.ok;
          }
          if (options.allNamespaces) throw new CliError("--all-namespaces goes with --outdated", exitCodes.usage);
          const { migrate } = await import("./commands/migrate.ts");
          await migrate({ cluster, environment }, options);
          return exitCodes.ok;
        },
        migrationFlags,
      ),
    );
  command("cancel-migration", "leave machines where they are")
    .description("Deletes the VirtualMachineMigrations of machines that are not over; what has moved stays so.")
    .action(
      working<CancelOptions>(
        run,
        async (cluster, options, environment) => {
          const { cancelMigration } = await import("./commands/migrate.ts");
          await cancelMigration({ cluster, environment }, options);
          return exitCodes.ok;
        },
        namesAndTimeout,
      ),
    );
}

function addAccessCommands(program: Command, run: Run): void {
  program
    .command("console <machine>")
    .summary("join the guest's console")
    .description(
      "Joins this terminal to the guest's console; Ctrl-] detaches. Without a terminal, input goes to the guest and its output to standard output until the machine ends.",
    )
    .addOption(new Option("--port <name>", "serial (ttyS0) or virtio (hvc0)").choices(["serial", "virtio"]))
    .option("--read-only", "show output, send nothing", false)
    .option("--no-history", "do not show what the guest wrote before")
    .option("--wait", "until the machine runs", false)
    .addOption(
      new Option("--timeout <duration>", "how long --wait waits").argParser(parseDuration).default(120_000, "2m"),
    )
    .action(
      working<ConsoleOptions & Named>(
        run,
        async (cluster, options, environment) => {
          const { attachConsole } = await import("./commands/console.ts");
          return attachConsole(cluster, options.machine, options, environment);
        },
        nameAndTimeout,
      ),
    );
  program
    .command("ssh <[user@]machine> [command...]")
    .summary("run ssh to a machine")
    .description(
      "Runs this computer's ssh; the connection goes through the API server and the machine's pod. ssh knows the machine as host vm.MACHINE.NAMESPACE, in known_hosts and in ~/.ssh/config. A command with options of its own goes behind --.",
    )
    .addOption(new Option("-p, --port <port>", "port of the guest's ssh server").argParser(parsePort).default(22))
    .option("-i, --identity-file <path>", "private key")
    .addOption(new Option("--ssh <program>", "ssh to run").default("ssh"))
    .action(
      working<SshWork>(
        run,
        async (cluster, options, environment) => {
          const { ssh } = await import("./commands/ssh.ts");
          const how = { ...options, program: options.ssh };
          return ssh(cluster, options.target, options.words, how, environment);
        },
        ([target, words], options) => ({ ...options, target, words }),
      ),
    );
  program
    .command("port-forward <machine> <ports...>")
    .summary("reach a machine's TCP ports on this computer")
    .description(
      "Listens on this computer and forwards each connection to a TCP port of the machine's pod: LOCAL:REMOTE, REMOTE, or :REMOTE for any free local port. It goes on after a restart of the machine. With --stdio, one connection on standard input and output.",
    )
    .addOption(new Option("--address <address>", "local address to listen on").default("127.0.0.1"))
    .option("--stdio", "one connection to one REMOTE port", false)
    .action(
      working<Named & { readonly ports: readonly string[]; readonly address: string; readonly stdio: boolean }>(
        run,
        async (cluster, { machine, ports, address, stdio }, environment) => {
          const { forwardPorts, forwardStdio, parsePortPair } = await import("./commands/port-forward.ts");
          const pairs = ports.map(parsePortPair);
          if (!stdio) {
            await forwardPorts(cluster, machine, { pairs, address }, environment);
            return exitCodes.ok;
          }
          if (pairs.length !== 1) throw new CliError("--stdio takes one port", exitCodes.usage);
          await forwardStdio(cluster, machine, pairs[0]?.remote ?? 0, environment);
          return exitCodes.ok;
        },
        ([machine, ports], options) => ({ ...options, machine, ports }),
      ),
    );
}

function addInsightCommands(program: Command, run: Run): void {
  program
    .command("describe <machine>")
    .summary("tell the story of a machine")
    .description("Shows conditions, pod, node, disks, interfaces, last termination and events of a machine.")
    .addOption(new Option("-o, --output <format>", "more of it, or all for programs").choices(["json", "yaml", "wide"]))
    .action(
      working<Named & { readonly output?: string }>(
        run,
        async (cluster, options, environment) => {
          const { describeMachine } = await import("./commands/describe.ts");
          await describeMachine(cluster, options.machine, options, environment);
          return exitCodes.ok;
        },
        ([machine], options) => ({ ...options, machine }),
      ),
    );
  program
    .command("logs <machine>")
    .summary("show the launcher's log")
    .description("Shows the log of the machine's launcher, JSON lines. What the guest prints is on its console.")
    .option("-f, --follow", "go on until the machine ends", false)
    .addOption(new Option("--tail <lines>", "the last lines only").argParser(parseWhole(0)))
    .addOption(new Option("--since <duration>", "lines of this last time only").argParser(parseDuration))
    .option("--timestamps", "begin lines with the kubelet's time", false)
    .action(
      working<LogsOptions & Named>(
        run,
        async (cluster, options, environment) => {
          const { showLogs } = await import("./commands/logs.ts");
          await showLogs(cluster, options.machine, options, environment);
          return exitCodes.ok;
        },
        ([machine], { since, ...options }) => ({
          ...options,
          machine,
          ...(since === undefined ? {} : { since: Math.max(1, Math.ceil(Number(since) / 1000)) }),
        }),
      ),
    );
  addTop(program, run);
  program
    .command("doctor")
    .summary("look at what Typevisor needs of the cluster")
    .description(
      "Checks Kubernetes, the API, operator and node agents, KVM, vhost-net, image volumes, seccomp, Pod Security, storage classes and what they share, and says what to do.",
    )
    .addOption(
      new Option("-o, --output <format>", "nodes and storage classes as well, or for programs").choices([
        "json",
        "yaml",
        "wide",
      ]),
    )
    .action(
      working<{ readonly output?: string }>(
        run,
        async (cluster, options, environment) => {
          const { doctor } = await import("./commands/doctor.ts");
          return doctor(cluster, options, environment);
        },
        (_args, options) => options,
      ),
    );
}

function addTop(program: Command, run: Run): void {
  program
    .command("top")
    .summary("show what machines use")
    .description(
      "A table of what machines use, again and again on a terminal. Read from the launchers' metrics through the API server, which takes the right to get pods/proxy.",
    )
    .option("-A, --all-namespaces", "in every namespace", false)
    .option("-l, --selector <labels>", "machines whose pods have these labels")
    .addOption(new Option("--interval <duration>", "between two looks").argParser(parseDuration).default(2_000, "2s"))
    .option("--once", "one table, and end", false)
    .addOption(
      new Option("--sort-by <key>", "largest first")
        .choices(["name", "cpu", "memory", "disk", "network"])
        .default("cpu"),
    )
    .addOption(new Option("-o, --output <format>", "more columns, or for programs").choices(["json", "yaml", "wide"]))
    .action(
      working<TopOptions>(
        run,
        async (cluster, options, environment) => {
          const { top } = await import("./commands/top.ts");
          await top(cluster, options, environment);
          return exitCodes.ok;
        },
        (_args, { interval, ...options }) => ({ ...options, intervalMs: interval }),
      ),
    );
}

function addCompletion(program: Command, run: Run): void {
  program
    .command("completion <shell>")
    .summary("print a completion script")
    .description(
      "Prints a completion script for bash or zsh, for kubectl-vm called by this name. For `kubectl vm`, kubectl's own completion asks kubectl_complete-vm, which is installed beside it.",
    )
    .addHelpText("after", "\nExample: source <(kubectl-vm completion bash)")
    .action(async (shell: string) => {
      const { completionScript } = await import("./completion/scripts.ts");
      run.environment.stdout.write(completionScript(shell));
    });
  program
    .command("__complete [words...]", { hidden: true })
    .allowUnknownOption()
    .helpOption(false)
    .action(async (words: string[]) => {
      const { complete } = await import("./completion/complete.ts");
      run.environment.stdout.write(await complete(program, words, run.environment));
    });
}

interface Named {
  readonly machine: string;
}

type SshWork = ClusterOptions & {
  readonly target: string;
  readonly words: readonly string[];
  readonly port: number;
  readonly ssh: string;
  readonly identityFile?: string;
};

type Flags = Readonly<Record<string, unknown>>;
type Gather = (args: readonly unknown[], flags: Flags) => Flags;

const namesAndTimeout: Gather = ([names], { timeout, ...flags }) => ({
  force: false,
  ...flags,
  names,
  timeoutMs: timeout,
});
const migrationFlags: Gather = (args, { targetClaim = [], maxDowntime, deadline, ...flags }) => ({
  ...namesAndTimeout(args, flags),
  targetClaims: targetClaim,
  maxDowntimeMs: maxDowntime,
  deadlineMs: deadline,
});
const nameAndTimeout: Gather = ([machine], { timeout, ...flags }) => ({ ...flags, machine, timeoutMs: timeout });

/** An action of commander: opens the cluster, does the work, and tells the exit code. */
function working<Options>(run: Run, work: Work<Options>, gather: Gather): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    const command = args.at(-1) as Command;
    const flags = command.optsWithGlobals();
    const { openCluster } = await import("./cluster/cluster.ts");
    using cluster = openCluster(flags as ClusterOptions, run.environment);
    const options = gather(args.slice(0, -2), flags) as Options;
    run.ended((await work(cluster, options, run.environment)) ?? exitCodes.ok);
  };
}
