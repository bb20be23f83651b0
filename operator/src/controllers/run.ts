import { Registry } from "prom-client";
import { Authority } from "../certificates/authority.ts";
import { LauncherClient } from "../launcher-client/launcher-client.ts";
import { Client } from "../runtime/client.ts";
import { sleep, systemClock } from "../runtime/clock.ts";
import type { Connection } from "../runtime/connection.ts";
import { messageOf } from "../runtime/errors.ts";
import { EventRecorder } from "../runtime/event-recorder.ts";
import { LeaderElector } from "../runtime/leader-elector.ts";
import type { Logger } from "../runtime/logger.ts";
import { RateLimiter } from "../runtime/rate-limit.ts";
import { operatorVersion } from "../version.ts";
import { Definitions } from "./definitions.ts";
import { BudgetController } from "./eviction/budget-controller.ts";
import { WebhookController, type WebhookControllerOptions } from "./eviction/webhook-controller.ts";
import type { ControllersConfig } from "./flags.ts";
import { serveHealth } from "./health-server.ts";
import { controllersMetrics } from "./metrics.ts";
import { settleHeap } from "./settle-heap.ts";
import { VirtualMachineController } from "./virtualmachine/controller.ts";
import { writersOf } from "./virtualmachine/observe.ts";
import { VirtualMachineImageController } from "./virtualmachineimage/controller.ts";
import { askImporterAt } from "./virtualmachineimage/progress-monitor.ts";
import { VirtualMachineMigrationController } from "./virtualmachinemigration/controller.ts";

export interface ControllersOptions {
  readonly config: ControllersConfig;
  readonly connection: Connection;
  /** Not shared with the controllers: their load must not hold up a renewal of the lease. */
  readonly electorConnection: Connection;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

const QPS = 200;
const BURST = 400;
/** A renewal that takes longer is tried anew on another connection. */
const LEASE_CALL_TIMEOUT_MS = 4_000;
const AUTHORITY_RETRY_MS = 2_000;
/** A drain waits for the webhook; it makes three calls or four. */
const WEBHOOK_CALL_TIMEOUT_MS = 2_000;

/** Runs all controllers until `signal` is aborted ("stopped") or the lease is lost ("lost"). */
export async function runControllers(options: ControllersOptions): Promise<"stopped" | "lost"> {
  const { config, logger, signal } = options;
  const clock = systemClock;
  const registry = new Registry();
  const metrics = controllersMetrics(registry, {
    lease: config.leaseName,
    world: () => controller.world,
    certificates: () => authority.expiry,
    webhookNotAfterMs: () => webhook?.certificateNotAfterMs,
    nowMs: clock.now,
  });
  const passesOf = (name: string) => ({ queueMetrics: metrics.queue(name), onPassFailed: metrics.passFailed(name) });
  const limiter = new RateLimiter(clock, QPS, BURST);
  const userAgent = `typevisor-operator/${operatorVersion}`;
  const client = new Client(options.connection, { limiter, metrics: metrics.client, userAgent });
  const eventClient = new Client(options.connection, { userAgent });
  const reporting = { reportingController: "typevisor.io/operator", reportingInstance: config.identity };
  const events = new EventRecorder({ client: eventClient, clock, logger, ...reporting });
  using authority = new Authority({
    client,
    clock,
    logger,
    namespace: config.namespace,
    secretName: config.caSecret,
    onTrustChange: () => controller.requeueAll(),
  });
  const launchers = new LauncherClient({
    credentials: () => authority.operatorCredentials(),
    port: config.settings.controlPort,
  });
  const controller: VirtualMachineController = new VirtualMachineController({
    client,
    clock,
    logger,
    settings: config.settings,
    namespaces: config.watchNamespaces,
    authority,
    launchers,
    events,
    ...passesOf("virtualmachine"),
    metrics: metrics.virtualMachines,
  });
  const images = new VirtualMachineImageController({
    client,
    clock,
    logger,
    settings: config.importSettings,
    namespaces: config.watchNamespaces,
    askImporter: askImporterAt(config.importSettings.telemetryPort),
    writersOf: (claimKey) => {
      if (!controller.hasSynced) throw new Error("which machines run is not known yet");
      return writersOf(controller.world, claimKey);
    },
    events,
    ...passesOf("virtualmachineimage"),
  });
  const migrations = new VirtualMachineMigrationController({
    client,
    clock,
    logger,
    machineSettings: config.settings,
    settings: config.migrationSettings,
    world: controller.world,
    launchers,
    events,
    ...passesOf("virtualmachinemigration"),
    metrics: metrics.migrations,
  });
  const budgets = new BudgetController({
    client,
    clock,
    logger,
    namespaces: config.watchNamespaces,
    virtualMachines: controller.world.virtualMachines,
    ...passesOf("eviction"),
  });
  await using webhook = webhookController(options, {
    client,
    events,
    metrics: metrics.evictions,
    userAgent,
    ...passesOf("webhook"),
  });
  const controllers = [controller, images, budgets, ...(webhook === undefined ? [] : [webhook])];
  using _heap = settleHeap();
  const definitions = new Definitions({ client, clock, logger });
  const missing = () => {
    if (definitions.problem !== undefined) return definitions.problem;
    return controllers.every(({ hasSynced }) => hasSynced) ? undefined : "the caches are not filled yet";
  };
  await using _health = await serveHealth(config.httpPort, { registry, missing });
  logger.info({ version: operatorVersion, identity: config.identity }, "The operator has started");
  const stopWatching = new AbortController();
  const watching = controllers.map((each) => each.watch(stopWatching.signal));
  try {
    if (!(await definitions.fit(signal))) return "stopped";
    return await lead(options, { authority, controllers: [...controllers, migrations], leads: metrics.leads });
  } finally {
    stopWatching.abort();
    await Promise.all([...watching, events.flush()]);
    logger.info({ stopped: signal.aborted }, "The operator has stopped");
  }
}

function webhookController(
  { config, connection, logger }: ControllersOptions,
  parts: Pick<WebhookControllerOptions, "client" | "events" | "metrics" | "queueMetrics" | "onPassFailed"> & {
    readonly userAgent: string;
  },
): WebhookController | undefined {
  const { namespace, caSecret, webhook: settings } = config;
  if (settings === undefined) return undefined;
  const { userAgent, ...others } = parts;
  const webhookClient = new Client(connection, { timeoutMs: WEBHOOK_CALL_TIMEOUT_MS, userAgent });
  return new WebhookController({ ...others, webhookClient, clock: systemClock, logger, namespace, caSecret, settings });
}

interface Controller {
  /** Works until `signal` is aborted, and then until what was begun is done. */
  work(signal: AbortSignal): Promise<void>;
}

async function lead(
  options: ControllersOptions,
  parts: {
    readonly authority: Authority;
    readonly controllers: readonly Controller[];
    readonly leads: (leads: boolean) => void;
  },
): Promise<"stopped" | "lost"> {
  const { config, logger, signal } = options;
  const { namespace, leaseName: name, identity } = config;
  const client = new Client(options.electorConnection, { timeoutMs: LEASE_CALL_TIMEOUT_MS });
  const elector = new LeaderElector({ client, clock: systemClock, logger, namespace, name, identity });
  if (config.leaderElect && !(await elector.acquire(signal))) {
    return "stopped";
  }
  logger.info({ identity, lease: config.leaderElect ? `${namespace}/${name}` : "none" }, "Leads from now on");
  parts.leads(true);
  // The lease is held until the last of the work is done, so not by `signal`.
  const hold = new AbortController();
  const held = config.leaderElect ? elector.hold(hold.signal) : undefined;
  const lost = held?.then((outcome) => (outcome === "lost" ? outcome : new Promise<never>(() => undefined)));
  const working = startAuthority(parts.authority, logger, signal).then(() =>
    Promise.all(parts.controllers.map((controller) => controller.work(signal))),
  );
  const outcome = await Promise.race([working.then(() => "stopped" as const), ...(lost === undefined ? [] : [lost])]);
  hold.abort();
  parts.leads(false);
  if (outcome === "stopped" && config.leaderElect) {
    await held;
    await elector.release();
  }
  return outcome;
}

/** Without certificates no machine can be started, so this is tried until it works. */
async function startAuthority(authority: Authority, logger: Logger, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await authority.start();
      return;
    } catch (error) {
      logger.error({ err: messageOf(error) }, "Can not load the certificate authority; tries again");
      await sleep(systemClock, AUTHORITY_RETRY_MS, signal);
    }
  }
}
