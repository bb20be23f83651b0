/** Grafana dashboards of the chart, from what differs between panels. */
export function dashboards(): Readonly<Record<string, string>> {
  return {
    "charts/typevisor/dashboards/cluster.json": toJson(cluster),
    "charts/typevisor/dashboards/machine.json": toJson(machine),
  };
}

type Unit = "short" | "s" | "bytes" | "Bps" | "percentunit" | "reqps" | "dateTimeAsIso";

interface Panel {
  readonly title: string;
  readonly about: string;
  readonly unit: Unit;
  /** "stat" shows the last value alone. */
  readonly kind?: "timeseries" | "stat";
  readonly queries: Readonly<Record<string, string>>;
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly variables: Readonly<Record<string, string>>;
  /** Panels of a row stand side by side. */
  readonly rows: Readonly<Record<string, readonly Panel[]>>;
}

const GRID_WIDTH = 24;
const PANEL_HEIGHT = 8;
const ROW_HEIGHT = 1;

/** Quantile of a histogram over five minutes. */
const quantile = (q: number, metric: string) => `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket[5m])))`;
/** The same of what is rare. */
const hourly = (q: number, metric: string) => `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket[1h])))`;
/** Series of the controllers alone, of those that every client-go program has. */
const ours = (metric: string) =>
  `${metric} * on (job, instance) group_left () typevisor_build_info{component="controllers"}`;
const start = "typevisor_virtualmachine_creation_to";

const cluster: Dashboard = {
  uid: "typevisor-cluster",
  title: "Typevisor / Cluster",
  variables: {},
  rows: {
    Machines: [
      {
        title: "Machines by phase",
        about: "As the operator sees them.",
        unit: "short",
        queries: { "{{phase}}": "max by (phase) (typevisor_virtualmachines)" },
      },
      {
        title: "Stalled",
        about: "Machines of which nothing more becomes until someone changes something.",
        unit: "short",
        queries: { "{{reason}}": "max by (reason) (typevisor_virtualmachines_stalled)" },
      },
      {
        title: "Ends by reason",
        about: "In the last hour.",
        unit: "short",
        queries: { "{{reason}}": "sum by (reason) (increase(typevisor_virtualmachine_terminations_total[1h]))" },
      },
    ],
    Starts: [
      {
        title: "Creation to pod, running and ready (P95)",
        about: "First starts only.",
        unit: "s",
        queries: {
          pod: quantile(0.95, `${start}_pod_seconds`),
          running: quantile(0.95, `${start}_running_seconds`),
          ready: quantile(0.95, `${start}_ready_seconds`),
        },
      },
      {
        title: "Pod to running (P50, P95)",
        about: "Scheduling, images, volumes, and the launcher's start.",
        unit: "s",
        queries: {
          P50: quantile(0.5, "typevisor_virtualmachine_pod_to_running_seconds"),
          P95: quantile(0.95, "typevisor_virtualmachine_pod_to_running_seconds"),
        },
      },
      {
        title: "Launcher's milestones",
        about: "Longest of all launchers, since the start of the process.",
        unit: "s",
        queries: { "{{step}}": "max by (step) (typevisor_vm_milestone_seconds)" },
      },
    ],
    Migrations: [
      {
        title: "Migrations under way",
        about: "By phase; Pending waits for its turn.",
        unit: "short",
        queries: { "{{phase}}": 'max by (phase) (typevisor_migrations{phase!~"Succeeded|Failed|Cancelled"})' },
      },
      {
        title: "Migrations that ended",
        about: "In the last hour, by result.",
        unit: "short",
        queries: { "{{result}}": "sum by (result) (increase(typevisor_migrations_total[1h]))" },
      },
      {
        title: "How long guests stood still",
        about: "Of migrations that succeeded in the last hour.",
        unit: "s",
        queries: {
          P50: hourly(0.5, "typevisor_migration_downtime_seconds"),
          P95: hourly(0.95, "typevisor_migration_downtime_seconds"),
        },
      },
      {
        title: "Evictions of machines",
        about: "In five minutes, by what came of them. Refused: the machine cannot move, and the drain waits.",
        unit: "short",
        queries: { "{{outcome}}": "sum by (outcome) (increase(typevisor_evictions_total[5m]))" },
      },
    ],
    "What machines use": [
      {
        title: "Processors in use",
        about: "Ten machines that use most, the launcher's own work included.",
        unit: "short",
        queries: { "{{namespace}}/{{name}}": "topk(10, typevisor_vm:cpu_usage_seconds:rate5m)" },
      },
      {
        title: "Resident memory",
        about: "Guest and launcher, ten largest.",
        unit: "bytes",
        queries: {
          "{{namespace}}/{{name}}": "topk(10, sum by (namespace, name) (typevisor_vm_memory_resident_bytes))",
        },
      },
      {
        title: "Disk traffic",
        about: "Read and written, ten busiest.",
        unit: "Bps",
        queries: { "{{namespace}}/{{name}}": "topk(10, typevisor_vm:storage_traffic_bytes:rate5m)" },
      },
    ],
    Operator: [
      {
        title: "Work queue",
        about: "Keys that wait, and the longest pass under way.",
        unit: "short",
        queries: {
          depth: `sum(${ours("workqueue_depth")})`,
          "longest pass (s)": `max(${ours("workqueue_longest_running_processor_seconds")})`,
        },
      },
      {
        title: "Passes that failed",
        about: "A second; conflicts are harmless.",
        unit: "reqps",
        queries: {
          "{{controller}} {{outcome}}": "sum by (controller, outcome) (rate(typevisor_reconcile_failures_total[5m]))",
        },
      },
      {
        title: "Calls to the API server",
        about: "A second, by answer.",
        unit: "reqps",
        queries: {
          "{{method}} {{code}}": `sum by (method, code) (rate(rest_client_requests_total[5m]) * on (job, instance) group_left () typevisor_build_info{component="controllers"})`,
        },
      },
    ],
    Nodes: [
      {
        title: "Nodes with KVM",
        about: "Node agents that can use KVM, and that the kubelet knows.",
        unit: "short",
        queries: {
          "KVM usable": "sum(typevisor_node_kvm_usable)",
          "vhost-net": "sum(typevisor_node_vhost_net_usable)",
          registered: "sum(typevisor_device_plugin_registered)",
          agents: 'count(typevisor_build_info{component="node"})',
        },
      },
      {
        title: "Agent's answers",
        about: "A second, by result.",
        unit: "reqps",
        queries: { "{{code}}": "sum by (code) (rate(typevisor_agent_requests_total[5m]))" },
      },
      {
        title: "Certificates end in",
        about: "They are renewed at two thirds of their life.",
        unit: "s",
        kind: "stat",
        queries: {
          "{{certificate}}": "min by (certificate) (typevisor_certificate_expiry_timestamp_seconds) - time()",
        },
      },
    ],
  },
};

const one = 'namespace="$namespace",name="$name"';
const rate = (metric: string, more = "") => `rate(${metric}{${one}${more}}[5m])`;
/** Quantile of one of the machine's histograms, by `labels`. */
const quantileOf = (q: number, metric: string, ...labels: readonly string[]) =>
  `histogram_quantile(${q}, sum by (${[...labels, "le"].join(", ")}) (${rate(`${metric}_bucket`)}))`;

const machine: Dashboard = {
  uid: "typevisor-machine",
  title: "Typevisor / Machine",
  variables: {
    namespace: "label_values(typevisor_vm_info, namespace)",
    name: 'label_values(typevisor_vm_info{namespace="$namespace"}, name)',
  },
  rows: {
    State: [
      {
        title: "State",
        about: "1 for the state that the machine is in.",
        unit: "short",
        queries: { "{{state}}": `max by (state) (typevisor_vm_state{${one}})` },
      },
      {
        title: "Runs since",
        about: "Start of this run; reboots stay in it.",
        unit: "dateTimeAsIso",
        kind: "stat",
        queries: { start: `max(typevisor_vm_start_time_seconds{${one}}) * 1000` },
      },
      {
        title: "Reboots and panics",
        about: "Of this run.",
        unit: "short",
        queries: {
          reboots: `max(typevisor_vm_reboots_total{${one}})`,
          panicked: `max(typevisor_vm_guest_panicked{${one}})`,
        },
      },
    ],
    Processors: [
      {
        title: "Virtual processors",
        about: "Share of time that each ran, and that it waited for a processor of the node.",
        unit: "percentunit",
        queries: { "{{id}} {{state}}": rate("typevisor_vm_vcpu_seconds_total") },
      },
      {
        title: "Exits by kind",
        about: "A second. What is frequent costs the guest time.",
        unit: "reqps",
        queries: { "{{kind}}": `topk(10, ${rate("typevisor_vm_exits_total")})` },
      },
      {
        title: "Ways of exits and back",
        about: "From an exit of the guest until it goes on with the answer.",
        unit: "s",
        queries: {
          P50: quantileOf(0.5, "typevisor_vm_exit_round_trip_seconds"),
          P99: quantileOf(0.99, "typevisor_vm_exit_round_trip_seconds"),
        },
      },
      {
        title: "Event loop's delay",
        about: "Longest between two scrapes, and on average.",
        unit: "s",
        queries: {
          longest: `max(typevisor_launcher_event_loop_lag_max_seconds{${one}})`,
          average: `${rate("typevisor_launcher_event_loop_lag_seconds_total")} / ${rate("typevisor_launcher_event_loop_lag_samples_total")}`,
        },
      },
    ],
    "Memory and network": [
      {
        title: "Memory",
        about: "What the guest may have, and has touched.",
        unit: "bytes",
        queries: {
          "guest's size": `max(typevisor_vm_memory_domain_bytes{${one}})`,
          "guest touched": `max(typevisor_vm_memory_guest_resident_bytes{${one}})`,
        },
      },
      {
        title: "Launcher's memory",
        about: "By kind; page tables are those of the guest's memory as well.",
        unit: "bytes",
        queries: { "{{kind}}": `max by (kind) (typevisor_vm_launcher_memory_bytes{${one}})` },
      },
      {
        title: "Network",
        about: "As the guest sees it.",
        unit: "Bps",
        queries: {
          "{{interface}} received": rate("typevisor_vm_network_receive_bytes_total"),
          "{{interface}} sent": rate("typevisor_vm_network_transmit_bytes_total"),
        },
      },
      {
        title: "Frames lost",
        about: "A second, both ways.",
        unit: "reqps",
        queries: {
          "{{interface}} received": rate("typevisor_vm_network_receive_packets_dropped_total"),
          "{{interface}} sent": rate("typevisor_vm_network_transmit_packets_dropped_total"),
        },
      },
    ],
    Disks: [
      {
        title: "Traffic",
        about: "Bytes a second.",
        unit: "Bps",
        queries: {
          "{{drive}} read": rate("typevisor_vm_storage_read_traffic_bytes_total"),
          "{{drive}} written": rate("typevisor_vm_storage_write_traffic_bytes_total"),
        },
      },
      {
        title: "Time of a request",
        about: "On average.",
        unit: "s",
        queries: {
          "{{drive}} read": `${rate("typevisor_vm_storage_read_times_seconds_total")} / ${rate("typevisor_vm_storage_iops_read_total")}`,
          "{{drive}} write": `${rate("typevisor_vm_storage_write_times_seconds_total")} / ${rate("typevisor_vm_storage_iops_write_total")}`,
          "{{drive}} flush": `${rate("typevisor_vm_storage_flush_times_seconds_total")} / ${rate("typevisor_vm_storage_flush_requests_total")}`,
        },
      },
      {
        title: "Time of a request (P99)",
        about: "From when the device took it until it ended.",
        unit: "s",
        queries: {
          "{{drive}} {{operation}}": quantileOf(0.99, "typevisor_vm_storage_request_seconds", "drive", "operation"),
        },
      },
      {
        title: "Full, and errors",
        about: "1 while the storage has no room; failed requests a second.",
        unit: "short",
        queries: {
          "{{drive}} full": `typevisor_vm_storage_full{${one}}`,
          "{{drive}} {{operation}} errors": rate("typevisor_vm_storage_errors_total"),
        },
      },
    ],
    "Migration (while one is under way)": [
      {
        title: "Sent, and left of the pass",
        about: "Memory, and disks that are copied.",
        unit: "bytes",
        queries: {
          sent: `max(typevisor_vm_migration_data_processed_bytes{${one}})`,
          left: `max(typevisor_vm_migration_data_remaining_bytes{${one}})`,
        },
      },
      {
        title: "Sent and written",
        about: "A second: it ends when little is written beside what is sent.",
        unit: "Bps",
        queries: {
          sent: `max(typevisor_vm_migration_transfer_rate_bytes{${one}})`,
          "written by the guest": `max(typevisor_vm_migration_dirty_memory_rate_bytes{${one}})`,
        },
      },
      {
        title: "Guest held back",
        about: "Share of the time, so that it writes less.",
        unit: "percentunit",
        queries: { "held back": `max(typevisor_vm_migration_throttle_ratio{${one}})` },
      },
    ],
  },
};

function toJson({ uid, title, variables, rows }: Dashboard): string {
  let y = 0;
  let id = 0;
  const panels: object[] = [];
  for (const [row, members] of Object.entries(rows)) {
    panels.push({
      id: ++id,
      type: "row",
      title: row,
      collapsed: false,
      panels: [],
      gridPos: { h: ROW_HEIGHT, w: GRID_WIDTH, x: 0, y },
    });
    const w = GRID_WIDTH / members.length;
    members.forEach((panel, column) => {
      const gridPos = { h: PANEL_HEIGHT, w, x: column * w, y: y + ROW_HEIGHT };
      panels.push({ id: ++id, ...panelOf(panel), gridPos });
    });
    y += ROW_HEIGHT + PANEL_HEIGHT;
  }
  const datasource = { name: "datasource", label: "Data source", type: "datasource", query: "prometheus" };
  const list = [datasource, ...Object.entries(variables).map(([name, query]) => variableOf(name, query))];
  const dashboard = {
    uid,
    title,
    tags: ["typevisor"],
    editable: false,
    graphTooltip: 1,
    refresh: "30s",
    schemaVersion: 39,
    time: { from: "now-1h", to: "now" },
    templating: { list },
    panels,
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

const SOURCE = { type: "prometheus", uid: "$" + "{datasource}" };

function panelOf({ title, about, unit, kind = "timeseries", queries }: Panel): object {
  return {
    type: kind,
    title,
    description: about,
    datasource: SOURCE,
    fieldConfig: { defaults: { unit, ...(kind === "timeseries" ? { min: 0 } : {}) }, overrides: [] },
    options:
      kind === "stat"
        ? { reduceOptions: { calcs: ["lastNotNull"] } }
        : { legend: { displayMode: "list", placement: "bottom" } },
    targets: Object.entries(queries).map(([legendFormat, expr], index) => ({
      refId: String.fromCharCode("A".charCodeAt(0) + index),
      datasource: SOURCE,
      expr,
      legendFormat,
    })),
  };
}

function variableOf(name: string, query: string): object {
  const definition = { query, refId: name };
  return { name, type: "query", datasource: SOURCE, query: definition, definition: query, refresh: 2, sort: 1 };
}
