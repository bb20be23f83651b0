import { isIP } from "node:net";
import { parseArgs } from "node:util";
import { formatBytes, parseQuantity } from "../../../crds/src/quantity.ts";
import { ConfigError } from "../runtime/config-error.ts";
import type { WebhookSettings } from "./eviction/webhook-controller.ts";
import { defaultOverhead, type Settings } from "./virtualmachine/settings.ts";
import type { ImportSettings } from "./virtualmachineimage/settings.ts";
import type { MigrationSettings } from "./virtualmachinemigration/settings.ts";

/** What `operator controllers` was told. */
export interface ControllersConfig {
  /** The operator's own namespace: its lease and its certificate authority are there. */
  readonly namespace: string;
  /** Unique to this process among replicas. */
  readonly identity: string;
  readonly leaderElect: boolean;
  readonly leaseName: string;
  readonly caSecret: string;
  readonly httpPort: number;
  readonly logLevel: LogLevel;
  readonly watchNamespaces: readonly string[];
  /** Undefined where evictions are nobody's concern. */
  readonly webhook: WebhookSettings | undefined;
  /** Kubeconfig for running outside a cluster. */
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  readonly settings: Settings;
  readonly importSettings: ImportSettings;
  readonly migrationSettings: MigrationSettings;
}

type LogLevel = "debug" | "info" | "warn" | "error";

const LOG_LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];
const SECCOMP_TYPES = ["RuntimeDefault", "Localhost"] as const;
const PULL_POLICIES = ["Always", "IfNotPresent", "Never"] as const;

/** Each flag, its default and its line in the help. */
const FLAGS = {
  "launcher-image": ["", "image of the launcher (required)"],
  "launcher-image-pull-policy": ["IfNotPresent", "Always, IfNotPresent or Never"],
  "launcher-image-pull-secrets": ["", "Secrets for pulling it, in each machine's namespace, comma-separated"],
  "launcher-log-level": ["info", "debug, info, warn or error"],
  "launcher-seccomp": ["RuntimeDefault", "RuntimeDefault, or Localhost: the profile that the node agents install"],
  "launcher-polling-us": ["", "longest time to look for a disk's next request; the launcher's own rule when empty"],
  "launcher-polling-percent": ["50", "how much of a processor that may take, where --launcher-polling-us is given"],
  "launcher-listen-address": ["::", "address that launchers listen on; :: is all of both families"],
  "launcher-control-port": ["10443", "port of the Launcher API on the pod IP"],
  "launcher-telemetry-port": ["10080", "port of health and metrics on the pod IP"],
  "launcher-migration-port": ["10444", "port that a launcher takes its machine over at; memory comes to the one above"],
  "launcher-priority-class": ["", "PriorityClass of machines that name none"],
  "overhead-fixed": [defaultOverhead.fixed, "memory that a pod requests beyond the guest's"],
  "overhead-per-cpu": [defaultOverhead.perCpu, "and for each virtual processor"],
  "overhead-per-guest-gi": [defaultOverhead.perGuestGi, "and for each GiB of the guest's memory"],
  "cpu-ratio": ["0.1", "CPU that a pod requests for each virtual processor, in cores"],
  "overlay-size-limit": ["10Gi", "how much a guest may write beside the image of a disk that does not say"],
  "importer-cpu": ["100m", "CPU that the pod of an import requests"],
  "importer-memory": ["64Mi", "memory that it requests, and takes at most beside page cache"],
  "importer-memory-limit": ["256Mi", "and may have, with page cache"],
  "importer-back-off": ["10", "seconds before a failed import is tried again; doubles"],
  "importer-back-off-max": ["300", "and at most"],
  "migrations-per-cluster": ["5", "live migrations at the same time"],
  "migrations-per-node": ["2", "and away from one node"],
  "migration-bandwidth": ["", "most that one sends a second, e.g. 100Mi; no limit when empty"],
  "migration-max-downtime": ["300", "milliseconds that a guest may stand still"],
  "migration-deadline": ["3600", "seconds after which a migration is given up"],
  "migration-auto-converge": ["true", "true or false: slow guests down that write faster than is sent"],
  "migration-ttl": ["86400", "seconds that a VirtualMachineMigration is kept after its end"],
  "webhook-port": ["9443", "port of the webhook that is asked about evictions"],
  "webhook-service": ["", "Service of the webhook, in the operator's namespace; no webhook when empty"],
  "webhook-configuration": ["typevisor-eviction", "ValidatingWebhookConfiguration of the webhook"],
  "watch-namespaces": ["", "namespaces to serve, comma-separated; all when empty"],
  "lease-name": ["typevisor-operator", "Lease by which replicas elect a leader"],
  "ca-secret": ["typevisor-ca", "Secret of the certificate authority"],
  "http-port": ["8080", "port of /healthz, /readyz and /metrics"],
  "log-level": ["info", "debug, info, warn or error"],
  kubeconfig: ["", "kubeconfig, for running outside a cluster"],
  context: ["", "context in it"],
} as const satisfies Record<string, readonly [string, string]>;

type Flag = keyof typeof FLAGS;

export const controllersHelp = `operator controllers [flags]
${Object.entries(FLAGS)
  .map(([name, [value, about]]) => `  --${name.padEnd(28)} ${about}${value === "" ? "" : ` (default ${value})`}`)
  .join("\n")}
  --launcher-scrape-annotations  prometheus.io/* annotations on machines' pods
  --leader-elect                 work only while holding the Lease
  --help                         prints this
Environment: POD_NAMESPACE (the operator's namespace), POD_NAME.
`;

/** Reads flags and environment; "help" when that was asked for. Throws ConfigError, which names the flag. */
export function parseControllersFlags(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
): ControllersConfig | "help" {
  const values = parse(args);
  if (values["help"] === true) {
    return "help";
  }
  const text = (flag: Flag) => String(values[flag] ?? FLAGS[flag][0]);
  const optional = (flag: Flag) => text(flag) || undefined;
  const list = (flag: Flag) =>
    text(flag)
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== "");
  const port = (flag: Flag) => wholeNumber(flag, text(flag), 1, 65_535);
  const launcherImage = text("launcher-image");
  if (launcherImage === "") {
    throw new ConfigError("--launcher-image", "is required: the image of the launcher");
  }
  const listenAddress = text("launcher-listen-address");
  if (isIP(listenAddress) === 0) {
    throw new ConfigError("--launcher-listen-address", `"${listenAddress}" is not an IP address such as 0.0.0.0 or ::`);
  }
  const controlPort = port("launcher-control-port");
  const telemetryPort = port("launcher-telemetry-port");
  if (controlPort === telemetryPort) {
    throw new ConfigError("--launcher-telemetry-port", "must differ from --launcher-control-port");
  }
  const migrationPort = wholeNumber("launcher-migration-port", text("launcher-migration-port"), 1, 65_534);
  if ([controlPort, telemetryPort].some((other) => other === migrationPort || other === migrationPort + 1)) {
    throw new ConfigError(
      "--launcher-migration-port",
      "and the port above must differ from the launcher's other ports",
    );
  }
  return {
    namespace: environment["POD_NAMESPACE"] || "typevisor-system",
    identity: `${environment["POD_NAME"] || "operator"}_${crypto.randomUUID()}`,
    leaderElect: values["leader-elect"] === true,
    leaseName: text("lease-name"),
    caSecret: text("ca-secret"),
    httpPort: wholeNumber("http-port", text("http-port"), 0, 65_535),
    logLevel: oneOf("log-level", text("log-level"), LOG_LEVELS),
    watchNamespaces: list("watch-namespaces"),
    webhook: webhookOf(text),
    kubeconfig: optional("kubeconfig"),
    context: optional("context"),
    settings: {
      launcherImage,
      launcherImagePullPolicy: oneOf("launcher-image-pull-policy", text("launcher-image-pull-policy"), PULL_POLICIES),
      launcherImagePullSecrets: list("launcher-image-pull-secrets"),
      launcherLogLevel: oneOf("launcher-log-level", text("launcher-log-level"), LOG_LEVELS),
      launcherSeccomp: oneOf("launcher-seccomp", text("launcher-seccomp"), SECCOMP_TYPES),
      polling:
        text("launcher-polling-us") === ""
          ? undefined
          : {
              windowUs: wholeNumber("launcher-polling-us", text("launcher-polling-us"), 0, 1000),
              sharePercent: wholeNumber("launcher-polling-percent", text("launcher-polling-percent"), 1, 100),
            },
      overhead: {
        fixedBytes: bytes("overhead-fixed", text("overhead-fixed")),
        perCpuBytes: bytes("overhead-per-cpu", text("overhead-per-cpu")),
        perGuestGiBytes: bytes("overhead-per-guest-gi", text("overhead-per-guest-gi")),
      },
      overlaySizeLimitBytes: bytes("overlay-size-limit", text("overlay-size-limit"), 2 ** 20),
      cpuRatio: ratio("cpu-ratio", text("cpu-ratio")),
      listenAddress,
      controlPort,
      telemetryPort,
      migrationPort,
      priorityClassName: optional("launcher-priority-class"),
      scrapeAnnotations: values["launcher-scrape-annotations"] === true,
    },
    importSettings: {
      image: launcherImage,
      imagePullPolicy: oneOf("launcher-image-pull-policy", text("launcher-image-pull-policy"), PULL_POLICIES),
      imagePullSecrets: list("launcher-image-pull-secrets"),
      logLevel: oneOf("launcher-log-level", text("launcher-log-level"), LOG_LEVELS),
      listenAddress,
      telemetryPort,
      cpuRequest: quantityText("importer-cpu", text("importer-cpu")),
      memoryRequest: quantityText("importer-memory", text("importer-memory")),
      memoryLimit: quantityText("importer-memory-limit", text("importer-memory-limit")),
      backOffMinMs: 1000 * wholeNumber("importer-back-off", text("importer-back-off"), 1, DAY_SECONDS),
      backOffMaxMs: 1000 * wholeNumber("importer-back-off-max", text("importer-back-off-max"), 1, DAY_SECONDS),
    },
    migrationSettings: {
      perCluster: wholeNumber("migrations-per-cluster", text("migrations-per-cluster"), 1, 1000),
      perNode: wholeNumber("migrations-per-node", text("migrations-per-node"), 1, 1000),
      ...(text("migration-bandwidth") !== "" && {
        bandwidthBytesPerSecond: bytes("migration-bandwidth", text("migration-bandwidth")),
      }),
      maxDowntimeMs: wholeNumber("migration-max-downtime", text("migration-max-downtime"), 1, 60_000),
      deadlineSeconds: wholeNumber("migration-deadline", text("migration-deadline"), 1, 7 * DAY_SECONDS),
      autoConverge: oneOf("migration-auto-converge", text("migration-auto-converge"), ["true", "false"]) === "true",
      ttlSeconds: wholeNumber("migration-ttl", text("migration-ttl"), 0, 2 ** 31 - 1),
    },
  };
}

function webhookOf(text: (flag: Flag) => string): WebhookSettings | undefined {
  const service = text("webhook-service");
  if (service === "") return undefined;
  const configuration = text("webhook-configuration");
  if (configuration === "") {
    throw new ConfigError("--webhook-configuration", "is required with --webhook-service");
  }
  return { service, configuration, port: wholeNumber("webhook-port", text("webhook-port"), 0, 65_535) };
}

function parse(args: readonly string[]): Readonly<Record<string, unknown>> {
  const strings = Object.keys(FLAGS).map((name) => [name, { type: "string" }] as const);
  const booleans = ["leader-elect", "launcher-scrape-annotations", "help"].map(
    (name) => [name, { type: "boolean" }] as const,
  );
  try {
    const options = Object.fromEntries([...strings, ...booleans]);
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new ConfigError("flags", error instanceof Error ? error.message : String(error));
  }
}

function oneOf<T extends string>(flag: Flag, value: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) {
    throw new ConfigError(`--${flag}`, `"${value}" must be one of ${choices.join(", ")}`);
  }
  return found;
}

function wholeNumber(flag: Flag, value: string, minimum: number, maximum: number): number {
  const number = Number(value);
  if (value.trim() === "" || !Number.isInteger(number) || number < minimum || number > maximum) {
    throw new ConfigError(`--${flag}`, `"${value}" must be a whole number from ${minimum} to ${maximum}`);
  }
  return number;
}

const DAY_SECONDS = 24 * 60 * 60;

/** A quantity as it goes into a pod. */
function quantityText(flag: Flag, value: string): string {
  try {
    if (parseQuantity(value) > 0) return value;
  } catch {
    // Said below.
  }
  throw new ConfigError(`--${flag}`, `"${value}" must be a quantity such as 100m or 64Mi`);
}

function bytes(flag: Flag, value: string, minimum = 0): number {
  try {
    const size = parseQuantity(value);
    if (Number.isSafeInteger(size) && size >= minimum) {
      return size;
    }
  } catch {
    // Said below.
  }
  throw new ConfigError(
    `--${flag}`,
    `"${value}" must be a size in whole bytes such as 64Mi${minimum > 0 ? `, at least ${formatBytes(minimum)}` : ""}`,
  );
}

function ratio(flag: Flag, value: string): number {
  const number = Number(value);
  if (value.trim() === "" || !(number > 0 && number <= 1)) {
    throw new ConfigError(`--${flag}`, `"${value}" must be above 0 and at most 1`);
  }
  return number;
}
