const HELP = `operator controllers [flags]    reconciles VirtualMachines (operator controllers --help lists the flags)
operator node [flags]           device plugin and node agent (operator node --help lists the flags)
operator version                prints the version
`;
const USAGE_EXIT_CODE = 2;

/** Each mode loads only what it needs. */
async function main([mode, ...args]: readonly string[]): Promise<void> {
  switch (mode) {
    case "controllers": {
      const { controllers } = await import("./controllers/command.ts");
      process.exitCode = await controllers(args, process.env);
      return;
    }
    case "node": {
      const { node } = await import("./node/command.ts");
      process.exitCode = await node(args, process.env);
      return;
    }
    case "version": {
      const { operatorVersion } = await import("./version.ts");
      process.stdout.write(`${operatorVersion}\n`);
      return;
    }
    case "help":
    case "--help":
    case "-h":
      process.stdout.write(HELP);
      return;
    default:
      process.stderr.write(
        `operator: ${mode === undefined ? "a mode is missing" : `there is no mode "${mode}"`}\n\n${HELP}`,
      );
      process.exitCode = USAGE_EXIT_CODE;
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`operator: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
});
