import { say } from "../lib/step.ts";
import { removeNodeLab } from "./node-lab.ts";
import { openLab } from "./open.ts";

const usage = `usage: hack/linux-lab/lab up | run LINE | down
The machine in which the linux tests run their guests.
  up      starts it if needed, with the current launcher in it
  run     runs one line of shell in it
  down    stops it
`;

async function main(): Promise<number> {
  const [command, ...rest] = process.argv.slice(2);
  switch (command) {
    case "up": {
      const lab = await openLab();
      say(`The lab is ${lab.kind === "host" ? "this machine" : "a node VM"}; guests in ${lab.paths.guests}`);
      return 0;
    }
    case "run": {
      const child = (await openLab()).start(rest.join(" "));
      child.stdout?.pipe(process.stdout);
      child.stderr?.pipe(process.stderr);
      return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
    }
    case "down":
      await removeNodeLab();
      return 0;
    default:
      process.stderr.write(usage);
      return command === "--help" ? 0 : 64;
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
