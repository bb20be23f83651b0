import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { GuestSession, SECTOR_BYTES } from "../support/guest-session.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { Prometheus, type TargetGroup } from "../support/prometheus.ts";
import { testGuest } from "../support/vm.ts";

const rulesDirectory = join(import.meta.dirname, "../../charts/typevisor/rules");
const NAMESPACE = "metrics";
const ONE = `namespace="${NAMESPACE}",name="counted"`;

describe("a Prometheus that scrapes the cluster", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let prometheus: Prometheus;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    const ruleFiles = readdirSync(rulesDirectory).map((file) => join(rulesDirectory, file));
    prometheus = await Prometheus.start({ discover: () => targets(cluster, kubectl), ruleFiles });
    await kubectl.apply(testGuest("counted", { disks: [{ name: "scratch", emptyDisk: { size: "1Mi" } }] }));
    await kubectl.waitFor("vm", "counted", "condition=Ready");
  });
  afterAll(async () => {
    await prometheus?.[Symbol.asyncDispose]();
    await cluster.dropNamespace(NAMESPACE);
  });

  it("reads every part of the product", async () => {
    await prometheus.expect(`count(typevisor_vm_info{${ONE}})`, 1);
    await prometheus.expect('count(typevisor_build_info{component="node"})', 1);
    await prometheus.expect("min(typevisor_node_kvm_usable) * min(typevisor_device_plugin_registered)", 1);
    await prometheus.expect("sum(leader_election_master_status)", 1);
    await prometheus.expect("min(up)", 1);
  });

  it("counts what a guest wrote, to the byte", async () => {
    await using guest = await GuestSession.open(kubectl, "counted");
    for (const sector of [1, 2, 3]) await guest.writeSector(0, sector, 4711);
    const of = (metric: string) => `typevisor_vm_storage_${metric}{${ONE},drive="scratch"}`;
    await prometheus.expect(of("write_traffic_bytes_total"), 3 * SECTOR_BYTES);
    await prometheus.expect(of("iops_write_total"), 3);
    await prometheus.expect(of("flush_requests_total"), 3);
    await prometheus.expect(`kubevirt_vmi_storage_write_traffic_bytes_total{${ONE}}`, 3 * SECTOR_BYTES);
  });

  it("knows how long processors ran, and how machines started", async () => {
    await prometheus.expect(`count(typevisor_vm_vcpu_seconds_total{${ONE}} >= 0)`, 2);
    await prometheus.expect(`count(typevisor_vm:cpu_usage_seconds:rate5m{${ONE}} > 0)`, 1);
    const started = await prometheus.query("sum(typevisor_virtualmachine_creation_to_ready_seconds_count)");
    expect(started[0]?.value).toBeGreaterThanOrEqual(1);
  });

  it("evaluates all rules, and no alert's condition holds for a cluster that is well", async () => {
    expect(await prometheus.brokenRules()).toEqual([]);
    const about = "Operator.*|Kvm.*|DevicePlugin.*|Work.*|ApiCalls.*|Certificate.*|Disk.*|GuestPanicked";
    await prometheus.expect(`absent(ALERTS{alertname=~"Typevisor(${about})"})`, 1);
  });

  it("sees a machine stop: its series end, and the operator counts why", async () => {
    const ends = 'sum(typevisor_virtualmachine_terminations_total{reason="Stopped"}) or vector(0)';
    const [before] = await prometheus.query(ends);
    await kubectl.run(["patch", "vm", "counted", "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}']);
    await prometheus.expect(ends, (before?.value ?? 0) + 1, 60_000);
    await prometheus.expect(`absent(typevisor_vm_info{${ONE}})`, 1);
    await prometheus.expect('max(typevisor_virtualmachines{phase="Stopped"}) >= bool 1', 1);
  });
});

/** What the chart's monitors find: the same pods by the same labels, the same ports by the same names. */
async function targets(cluster: TestCluster, kubectl: Kubectl): Promise<TargetGroup[]> {
  const [launchers, operator] = await Promise.all([
    podsWith(kubectl, "typevisor.io/vm", "telemetry"),
    podsWith(cluster.system, "app.kubernetes.io/component in (controllers,node)", "http"),
  ]);
  return [...launchers, ...operator];
}

async function podsWith(kubectl: Kubectl, selector: string, portName: string): Promise<TargetGroup[]> {
  const pods = (await kubectl.list("pods", selector)) as KubeObject<{ phase?: string; podIP?: string }>[];
  return pods.flatMap(({ metadata, spec, status }) => {
    const { containers } = spec as { containers: { ports?: { name: string; containerPort: number }[] }[] };
    const port = containers.flatMap(({ ports }) => ports ?? []).find(({ name }) => name === portName)?.containerPort;
    if (status.phase !== "Running" || status.podIP === undefined || port === undefined) return [];
    return [{ targets: [`${status.podIP}:${port}`], labels: { pod: metadata.name } }];
  });
}
