import { pino } from "pino";
import { ConfigError } from "../runtime/config-error.ts";
import { type Connection, inClusterConnection, isInCluster } from "../runtime/connection.ts";
import { messageOf } from "../runtime/errors.ts";
import { type ControllersConfig, controllersHelp, parseControllersFlags } from "./flags.ts";
import { runControllers } from "./run.ts";

const USAGE_EXIT_CODE = 2;

/** `operator controllers`: runs until SIGTERM or SIGINT; resolves to the exit code. */
export async function controllers(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<number> {
  let config: ControllersConfig | "help";
  try {
    config = parseControllersFlags(args, environment);
  } catch (error) {
    if (error instanceof ConfigError) {
      process.stderr.write(`operator: ${error.message}\n\n${controllersHelp}`);
      return USAGE_EXIT_CODE;
    }
    throw error;
  }
  if (config === "help") {
    process.stdout.write(controllersHelp);
    return 0;
  }
  const { kubeconfig, context } = config;
  const connect = async (): Promise<Connection> => {
    if (kubeconfig !== undefined) {
      // Loaded only where it is needed: it costs 86 MB.
      const { kubeConfigConnection } = await import("../runtime/kubeconfig.ts");
      return kubeConfigConnection(kubeconfig, context);
    }
    if (!isInCluster(environment)) {
      throw new ConfigError("--kubeconfig", "is required outside a cluster");
    }
    return inClusterConnection(environment);
  };
  const logger = pino({
    level: config.logLevel,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    messageKey: "message",
  });
  const stop = new AbortController();
  const onSignal = (signal: NodeJS.Signals) => {
    logger.info({ signal }, "Stops");
    stop.abort();
  };
  process.once("SIGTERM", onSignal).once("SIGINT", onSignal);
  using connections = new DisposableStack();
  let connection: Connection;
  let electorConnection: Connection;
  try {
    connection = connections.use(await connect());
    electorConnection = connections.use(await connect());
  } catch (error) {
    process.stderr.write(`operator: ${messageOf(error)}\n`);
    return USAGE_EXIT_CODE;
  }
  const outcome = await runControllers({ config, connection, electorConnection, logger, signal: stop.signal });
  if (outcome === "stopped") {
    return 0;
  }
  // What is under way may not go on a moment after the lease was lost: another leader may start.
  logger.error({}, "Ends, as the lease is lost");
  process.exit(1);
}
