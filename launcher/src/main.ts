import { exitCodes } from "../api/control.ts";
import { errorText } from "./log/error-text.ts";
import { launcherVersion } from "./version.ts";

const HELP = `launcher run MACHINE_JSON    runs the machine until it ends
  --restore DIRECTORY        the machine goes on where it was suspended
  --receive                  waits for the machine to come from another launcher (live migration)
  --copied DISK=BYTES[@PATH] with --receive: the disk is a claim of its own here (at PATH), and is filled from there
  --moved DISK=BYTES@PATH    with --receive: the disk is at PATH by now, and not where machine.json says
launcher import CONFIG_JSON  fills a volume with a disk (launcher/api/import.ts)
launcher console             joins the terminal to a running machine (see launcher console --help)
launcher vsock PORT          joins standard input and output to a port of the guest (see launcher vsock --help)
launcher hold                offers a disk to another pod (see launcher hold --help)
launcher version             prints the version
`;
const USAGE_EXIT_CODE = 2;

/** Each command loads only what it needs: a console must be there at once. */
async function main([command, ...args]: readonly string[]): Promise<void> {
  switch (command) {
    case "run":
      return runCommand(args);
    case "import":
      return importCommand(args);
    case "console":
      return consoleCommand(args);
    case "hold":
      return holdCommand(args);
    case "vsock":
      return vsockCommand(args);
    case "version":
      process.stdout.write(`${launcherVersion}\n`);
      return;
    case "help":
    case "--help":
    case "-h":
      process.stdout.write(HELP);
      return;
    default:
      usage(command === undefined ? "a command is missing" : `there is no command ${JSON.stringify(command)}`, HELP);
  }
}

async function runCommand(args: readonly string[]): Promise<void> {
  const { parseRunOptions } = await import("./commands/run-options.ts");
  let options: ReturnType<typeof parseRunOptions>;
  try {
    options = parseRunOptions(args);
  } catch (error) {
    return usage(errorText(error), HELP);
  }
  const [{ run }, { assembleMachine }] = await Promise.all([
    import("./commands/run.ts"),
    import("./machine/assemble.ts"),
  ]);
  await run(options.configPath, assembleMachine, options.origin);
}

async function importCommand(args: readonly string[]): Promise<void> {
  const [config, ...more] = args;
  if (config === undefined || more.length > 0) return usage("import takes one configuration as JSON", HELP);
  const { importDisk } = await import("./commands/import.ts");
  await importDisk(config);
}

async function consoleCommand(args: readonly string[]): Promise<void> {
  const { consoleHelp, parseConsoleOptions } = await import("./commands/console-options.ts");
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(consoleHelp);
    return;
  }
  let options: ReturnType<typeof parseConsoleOptions>;
  try {
    options = parseConsoleOptions(args);
  } catch (error) {
    return usage(errorText(error), consoleHelp);
  }
  const { attachConsole } = await import("./commands/console.ts");
  process.exitCode = await attachConsole(options);
}

async function holdCommand(args: readonly string[]): Promise<void> {
  const { holdHelp, parseHoldOptions } = await import("./commands/hold-options.ts");
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(holdHelp);
    return;
  }
  let options: ReturnType<typeof parseHoldOptions>;
  try {
    options = parseHoldOptions(args);
  } catch (error) {
    return usage(errorText(error), holdHelp);
  }
  const { hold } = await import("./commands/hold.ts");
  await hold(options);
}

async function vsockCommand(args: readonly string[]): Promise<void> {
  const { parseVsockOptions, vsockHelp } = await import("./commands/vsock-options.ts");
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(vsockHelp);
    return;
  }
  let options: ReturnType<typeof parseVsockOptions>;
  try {
    options = parseVsockOptions(args);
  } catch (error) {
    return usage(errorText(error), vsockHelp);
  }
  const { joinVsock } = await import("./commands/vsock.ts");
  process.exitCode = await joinVsock(options);
}

function usage(problem: string, help: string): void {
  process.stderr.write(`launcher: ${problem}\n\n${help}`);
  process.exitCode = USAGE_EXIT_CODE;
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`launcher: ${errorText(error)}\n`);
  process.exitCode = exitCodes.LauncherError;
});
