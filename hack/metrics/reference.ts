import type { Catalogue, MetricEntry } from "./catalogue.ts";

const HEAD = `<!-- Generated from the code by hack/generate; do not edit. -->
# Metrics

What Prometheus reads from each part, in the text format, at \`/metrics\`. How to have it scraped, alerts and dashboards:
[observability.md](observability.md). A metric's unit is the end of its name (\`_total\` left out): seconds, bytes; others
are counts, or 1 and 0 for yes and no.
`;

const PARTS = {
  launcher: `## Launchers
One for each machine, port \`telemetry\` (10080) of its pod. The namespace and name of the VirtualMachine are labels of each
metric. Names are KubeVirt's where it has the same quantity, with \`typevisor_vm_\` for \`kubevirt_vmi_\`.
`,
  controllers: `## Controllers
The operator's Deployment, port \`http\` (8080). All replicas count their own calls; what is about machines, and the certificates, the
leader knows. Names of work queue, API client and leader election are client-go's.
`,
  node: `## Node agents
The DaemonSet, port \`http\` (8080).
`,
} as const;

const FROM_LIBRARY = /^(process|nodejs)_/;

/** docs/metrics.md. */
export function metricsReference(catalogue: Catalogue): string {
  const parts = (["launcher", "controllers", "node"] as const).map((part) => {
    const own = catalogue[part].filter(({ name }) => !FROM_LIBRARY.test(name));
    const others = catalogue[part].filter(({ name }) => FROM_LIBRARY.test(name));
    const cost = part === "launcher" ? seriesText(catalogue.scrapes.launcher) : "";
    return `${PARTS[part]}${cost}\n${tableOf(own)}${othersText(others)}`;
  });
  return [HEAD, ...parts].join("\n");
}

/** What one disk, interface and processor add, of a machine that has one of each. */
function seriesText(scrape: string): string {
  const count = (label: string) => scrape.split("\n").filter((line) => line.includes(`,${label}="`)).length;
  return `A disk has ${count("drive")} series, an interface ${count("interface")}, a processor ${count("id")}, each kind of exit 1 (at most 32 ports are told apart).\n`;
}

function tableOf(entries: readonly MetricEntry[]): string {
  const rows = entries.map(
    ({ name, type, labels, help }) =>
      `| \`${name}\` | ${type} | ${unitOf(name, type)} | ${labels.map((label) => `\`${label}\``).join(", ")} | ${help.replaceAll("|", "\\|")} |\n`,
  );
  return `| name | type | unit | labels | what |\n|---|---|---|---|---|\n${rows.join("")}`;
}

function othersText(entries: readonly MetricEntry[]): string {
  if (entries.length === 0) return "";
  return `\nAnd what prom-client tells of each Node.js process: ${entries.map(({ name }) => `\`${name}\``).join(", ")}.\n`;
}

function unitOf(name: string, type: string): string {
  const base = name.replace(/_total$/, "");
  if (base.endsWith("timestamp_seconds") || base.endsWith("start_time_seconds")) return "seconds since the epoch";
  if (base.endsWith("_seconds")) return "seconds";
  if (base.endsWith("_bytes")) return "bytes";
  if (base.endsWith("_info")) return "1";
  return type === "counter" ? "count" : "number";
}
