import { once } from "node:events";
import { pino } from "pino";
import { Registry } from "prom-client";
import { serveHealth } from "../controllers/health-server.ts";
import { ConfigError } from "../runtime/config-error.ts";
import { operatorVersion } from "../version.ts";
import { nodeMetrics } from "./metrics.ts";
import { startNodeAgent } from "./node-agent.ts";
import { type NodeOptions, nodeHelp, parseNodeOptions } from "./options.ts";

const USAGE_EXIT_CODE = 2;

/** `operator node`: runs until SIGTERM or SIGINT; resolves to the exit code. */
export async function node(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(nodeHelp);
    return 0;
  }
  let options: NodeOptions;
  try {
    options = parseNodeOptions(args);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`operator: ${error.message}\n\n${nodeHelp}`);
    return USAGE_EXIT_CODE;
  }
  const log = pino({
    level: options.logLevel,
    base: environment["NODE_NAME"] === undefined ? null : { node: environment["NODE_NAME"] },
    timestamp: pino.stdTimeFunctions.isoTime,
    messageKey: "message",
  });
  const stopped = Promise.race([once(process, "SIGTERM"), once(process, "SIGINT")]);
  const registry = new Registry();
  const metrics = nodeMetrics(registry, operatorVersion);
  await using agent = await startNodeAgent({ options, log, metrics, version: operatorVersion, environment });
  await using _health =
    options.httpPort === 0
      ? undefined
      : await serveHealth(options.httpPort, {
          registry,
          missing: () => (agent.isReady() ? undefined : "the kubelet does not know the device plugin yet"),
        });
  await stopped;
  log.info({ reason: "StopRequested" }, "Stops; running machines do not notice");
  return 0;
}
