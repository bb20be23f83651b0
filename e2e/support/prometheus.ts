import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { stringify } from "yaml";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { inNetns } from "../../hack/dev-cluster/network.ts";
import { run, tail, waitFor } from "../../hack/lib/step.ts";
import { CLUSTER_NAME } from "./cluster.ts";
import { eventually } from "./eventually.ts";

/** One series of an instant query's answer. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Where to scrape, as discovery by files has it. */
export interface TargetGroup {
  readonly targets: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface PrometheusOptions {
  /** Asked every second; a target that is left out is gone, and its series end. */
  readonly discover: () => Promise<readonly TargetGroup[]>;
  readonly ruleFiles: readonly string[];
}

const DISCOVERY_INTERVAL_MS = 1_000;
const URL_INSIDE = "http://127.0.0.1:9090";
const layout = layoutOf(CLUSTER_NAME);
/** Prints what the URL behind it answers. */
const FETCH = "fetch(process.argv[1]).then((response) => response.text()).then((text) => process.stdout.write(text))";

/**
 * A real Prometheus; Debian's, which has no discovery of its own for Kubernetes. It runs in the cluster's network
 * namespace, where pods are reached, and is asked from there.
 */
export class Prometheus implements AsyncDisposable {
  readonly #dispose: () => Promise<void>;

  private constructor(dispose: () => Promise<void>) {
    this.#dispose = dispose;
  }

  static async start({ discover, ruleFiles }: PrometheusOptions): Promise<Prometheus> {
    await using cleanup = new AsyncDisposableStack();
    const directory = cleanup.adopt(mkdtempSync(join(tmpdir(), "typevisor-prometheus-")), (path) =>
      rmSync(path, { recursive: true, force: true }),
    );
    const targetsFile = join(directory, "targets.json");
    cleanup.use(writeTargets(targetsFile, discover));
    const configuration = join(directory, "prometheus.yml");
    writeFileSync(configuration, stringify(configurationFor(targetsFile, ruleFiles)));
    const flags = [
      `--config.file=${configuration}`,
      `--storage.tsdb.path=${directory}/data`,
      `--web.listen-address=${new URL(URL_INSIDE).host}`,
    ];
    const logFile = join(directory, "log");
    const log = openSync(logFile, "a");
    // nsenter becomes the program, so a signal to it reaches Prometheus.
    const [command = "", ...args] = inNetns(layout, "prometheus", ...flags);
    const child = spawn(command, args, { stdio: ["ignore", log, log], env: process.env });
    closeSync(log);
    const ended = once(child, "exit");
    cleanup.defer(async () => {
      child.kill();
      await ended;
    });
    await waitFor(
      async () => {
        if (child.exitCode !== null) throw new Error(`Prometheus ended while it started:\n${await tail(logFile)}`);
        return (await fetchInside(`${URL_INSIDE}/-/ready`).catch(() => "")).includes("is Ready");
      },
      { what: "Prometheus", timeoutMs: 60_000, logFile },
    );
    const owned = cleanup.move();
    return new Prometheus(() => owned.disposeAsync());
  }

  /** An instant query. */
  async query(promql: string): Promise<Sample[]> {
    const { result } = (await this.#get("query", { query: promql })) as {
      result: { metric: Record<string, string>; value: [number, string] }[];
    };
    return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  }

  /** Waits until a query's answer has one value, and it is `expected`. */
  async expect(promql: string, expected: number, deadlineMs = 30_000): Promise<void> {
    await eventually(`${promql} to be ${expected}`, deadlineMs, async () => {
      const samples = await this.query(promql);
      if (samples.length === 1 && samples[0]?.value === expected) return true;
      throw new Error(JSON.stringify(samples));
    });
  }

  /** Rules that Prometheus could not evaluate, with what it says. */
  async brokenRules(): Promise<string[]> {
    const { groups } = (await this.#get("rules", {})) as {
      groups: { rules: { name: string; health: string; lastError?: string }[] }[];
    };
    return groups.flatMap(({ rules }) =>
      rules.filter(({ health }) => health === "err").map(({ name, lastError }) => `${name}: ${lastError}`),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dispose();
  }

  async #get(path: string, query: Record<string, string>): Promise<unknown> {
    const answer = await fetchInside(`${URL_INSIDE}/api/v1/${path}?${new URLSearchParams(query)}`);
    const { status, data, error } = JSON.parse(answer) as { status: string; data: unknown; error?: string };
    if (status !== "success") throw new Error(`Prometheus: ${error}`);
    return data;
  }
}

function configurationFor(targetsFile: string, ruleFiles: readonly string[]): object {
  return {
    global: { scrape_interval: "1s", evaluation_interval: "1s" },
    rule_files: ruleFiles,
    scrape_configs: [{ job_name: "typevisor", honor_labels: true, file_sd_configs: [{ files: [targetsFile] }] }],
  };
}

const fetchInside = (url: string) => run(inNetns(layout, process.execPath, "-e", FETCH, url));

/** Keeps the file as `discover` has it, in one step each time. A failure to ask leaves it as it is. */
function writeTargets(path: string, discover: PrometheusOptions["discover"]): AsyncDisposable {
  const stopped = new AbortController();
  const turns = async () => {
    while (!stopped.signal.aborted) {
      const groups = await discover().catch(() => undefined);
      if (groups !== undefined) {
        writeFileSync(`${path}.new`, JSON.stringify(groups));
        renameSync(`${path}.new`, path);
      }
      await delay(DISCOVERY_INTERVAL_MS, undefined, { signal: stopped.signal }).catch(() => {});
    }
  };
  const ended = turns();
  return {
    async [Symbol.asyncDispose]() {
      stopped.abort();
      await ended;
    },
  };
}
