import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { parse } from "yaml";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { datagramAnswers, nodePod } from "../support/datagrams.ts";
import { DATAGRAM_HEADERS_BYTES, datagramFrame, VIRTIO_NET_HEADER_BYTES } from "../support/frames.ts";
import { GuestSession, SECTOR_BYTES } from "../support/guest-session.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { Prometheus, type TargetGroup } from "../support/prometheus.ts";
import { migrationManifest, openConsole, testGuest } from "../support/vm.ts";

const rulesDirectory = join(import.meta.dirname, "../../charts/typevisor/rules");
const NAMESPACE = "metrics";
const MACHINES = 10;
const ALL = `namespace="${NAMESPACE}"`;
const named = (index: number) => `counted-${index}`;
const of = (index: number) => `${ALL},name="${named(index)}"`;
const ONE = of(0);
/** As short as Ethernet has it. */
const FRAME_BYTES = 60;
const DISCARD_PORT = 9;
/** To all, which nobody answers. */
const frameFrom = (mac: string) =>
  datagramFrame(
    { mac, address: "10.0.2.2", port: DISCARD_PORT },
    { mac: "ff:ff:ff:ff:ff:ff", address: "10.0.2.1", port: DISCARD_PORT },
    Buffer.alloc(FRAME_BYTES - DATAGRAM_HEADERS_BYTES),
  );
const ARP_FRAME_BYTES = 42;
/** "hello". */
const DATAGRAM_FRAME_BYTES = DATAGRAM_HEADERS_BYTES + 5;

describe("a Prometheus that scrapes the cluster", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let prometheus: Prometheus;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    const ruleFiles = readdirSync(rulesDirectory).map((file) => join(rulesDirectory, file));
    prometheus = await Prometheus.start({ discover: () => targets(cluster, kubectl), ruleFiles });
    const disks = [{ name: "scratch", emptyDisk: { size: "1Mi" } }];
    const machines = Array.from({ length: MACHINES }, (_, index) => testGuest(named(index), { disks }));
    await kubectl.apply({ apiVersion: "v1", kind: "List", items: [...machines, nodePod("sender")] });
    await kubectl.run(["wait", "vm", "--all", "--for=condition=Ready", "--timeout=120s"], { timeoutMs: 130_000 });
    await kubectl.waitFor("pod", "sender", "condition=Ready");
  });
  afterAll(async () => {
    await prometheus?.[Symbol.asyncDispose]();
    await cluster.dropNamespace(NAMESPACE);
  });

  it("reads every part of the product", async () => {
    await prometheus.expect(`count(typevisor_vm_info{${ALL}})`, MACHINES);
    await prometheus.expect(`sum(typevisor_vm_state{${ALL},state="Running"})`, MACHINES);
    await prometheus.expect('count(typevisor_build_info{component="node"})', 1);
    await prometheus.expect("min(typevisor_node_kvm_usable) * min(typevisor_device_plugin_registered)", 1);
    await prometheus.expect("sum(leader_election_master_status)", 1);
    await prometheus.expect("min(up)", 1);
  });

  // The guest itself writes, in the place of fio: with /dev/kvm emulated no Linux boots on this node in a test's time.
  it("counts what guests wrote, to the byte, and tells machines apart", async () => {
    const blocks = 200;
    const sectors = Array.from({ length: MACHINES }, (_, index) => index);
    await Promise.all(
      sectors.map(async (count) => {
        await using guest = await GuestSession.open(kubectl, named(count));
        for (let sector = 0; sector < count; sector++) await guest.writeSector(0, sector, 4711);
        if (count === 0)
          expect(await guest.ask(`blkbench 0 4 ${blocks} 4096 0 1`)).toContain(`blkbench done ${blocks} failed 0`);
      }),
    );
    const written = (metric: string, labels: string) => `typevisor_vm_storage_${metric}{${labels},drive="scratch"}`;
    await prometheus.expect(written("write_traffic_bytes_total", of(0)), blocks * 4096);
    await prometheus.expect(written("iops_write_total", of(0)), blocks);
    for (const count of sectors.slice(1)) {
      await prometheus.expect(written("write_traffic_bytes_total", of(count)), count * SECTOR_BYTES);
      await prometheus.expect(written("flush_requests_total", of(count)), count);
    }
    const single = sectors.reduce((sum, count) => sum + count);
    const bytes = blocks * 4096 + single * SECTOR_BYTES;
    await prometheus.expect(`sum(${written("write_traffic_bytes_total", ALL)})`, bytes);
    await prometheus.expect(`sum(${written("iops_write_total", ALL)})`, blocks + single);
    await prometheus.expect(`sum(kubevirt_vmi_storage_write_traffic_bytes_total{${ALL}})`, bytes);
    await prometheus.expect(`sum(kubevirt_vmi_storage_iops_write_total{${ALL}})`, blocks + single);
  });

  it("counts the frames that a guest sent, and their bytes", async () => {
    const mac = (await kubectl.get("vm", named(1)))?.status.interfaces?.[0]?.mac ?? "";
    await using guest = await GuestSession.open(kubectl, named(1));
    const sent = `net sent ${VIRTIO_NET_HEADER_BYTES + FRAME_BYTES} bytes`;
    for (let i = 0; i < 3; i++) expect(await guest.ask(`netsend ${frameFrom(mac)}`)).toContain(sent);
    for (const prefix of ["typevisor_vm", "kubevirt_vmi"]) {
      const counted = (unit: string) => `${prefix}_network_transmit_${unit}_total{${of(1)},interface="default"}`;
      await prometheus.expect(counted("packets"), 3);
      await prometheus.expect(counted("bytes"), 3 * FRAME_BYTES);
    }
  });

  it("counts the datagrams that a guest got and answered", async () => {
    const count = 20;
    const address = (await kubectl.get("vm", named(2)))?.status.podIP ?? "";
    await using session = await openConsole(kubectl, named(2));
    session.write(`netecho ${count}\r`);
    await session.expect(/net up/);
    // One that is sent again, as its answer took too long, is a question as well: the guest says how many it had.
    const to = Array.from({ length: count }, (_, index) => ({ address, port: 4000 + index }));
    expect(await datagramAnswers(kubectl, "sender", to)).toContain("hello");
    const bytes = count * DATAGRAM_FRAME_BYTES;
    await session.expect(new RegExp(`net answered ${count} questions of ${bytes} bytes`));
    // It has told its address, too, once or more often.
    const [packets, sent] = ["packets", "bytes"].map((unit) => `typevisor_vm_network_transmit_${unit}_total{${of(2)}}`);
    await prometheus.expect(`${sent} - ${ARP_FRAME_BYTES} * (${packets} - ${count})`, bytes);
    await prometheus.expect(`typevisor_vm_network_receive_packets_total{${of(2)}} >= bool ${count}`, 1);
  });

  it("has all of it under KubeVirt's names as well, where that is asked for", async () => {
    const { groups } = parse(readFileSync(join(rulesDirectory, "kubevirt.yaml"), "utf8")) as {
      groups: { rules: { record: string }[] }[];
    };
    // A launcher tells of a migration while it goes on, which may be between two scrapes.
    const isOfMoment = (name = "") => /^kubevirt_vmi_migration_(data|dirty_memory)_/.test(name);
    const names = groups.flatMap(({ rules }) => rules.map(({ record }) => record));
    expect(names.filter(isOfMoment)).toHaveLength(3);
    const found = await prometheus.query('count by (__name__) ({__name__=~"kubevirt_.+"})');
    const there = found.map(({ labels }) => labels["__name__"]).filter((name) => !isOfMoment(name));
    expect(new Set(there)).toEqual(new Set(names.filter((name) => !isOfMoment(name))));
    await prometheus.expect(`count(kubevirt_vmi_info{${ALL},phase="running"})`, MACHINES);
    await prometheus.expect(`sum(kubevirt_vmi_memory_domain_bytes{${ALL}})`, MACHINES * 32 * 2 ** 20);
  });

  it("knows how long processors ran, and how machines started", async () => {
    await prometheus.expect(`count(typevisor_vm_vcpu_seconds_total{${ONE}} >= 0)`, 2);
    await prometheus.expect(`count(typevisor_vm:cpu_usage_seconds:rate5m{${ALL}} > 0)`, MACHINES);
    const started = await prometheus.query("sum(typevisor_virtualmachine_creation_to_ready_seconds_count)");
    expect(started[0]?.value).toBeGreaterThanOrEqual(MACHINES);
  });

  it("evaluates all rules, and no alert's condition holds for a cluster that is well", async () => {
    expect(await prometheus.brokenRules()).toEqual([]);
    const about = "Operator.*|Kvm.*|DevicePlugin.*|Work.*|ApiCalls.*|Certificate.*|Disk.*|GuestPanicked";
    await prometheus.expect(`absent(ALERTS{alertname=~"Typevisor(${about})"})`, 1);
  });

  it("sees a machine move: its result, its downtime, and the machine in its other pod alone", async () => {
    const counted = [
      'sum(typevisor_migrations_total{result="Succeeded"}) or vector(0)',
      "sum(typevisor_migration_downtime_seconds_count) or vector(0)",
    ];
    const before = await Promise.all(counted.map((query) => prometheus.query(query)));
    const spec = { virtualMachineName: named(3), target: { allowSourceNode: true } };
    await kubectl.apply(migrationManifest("counted", spec));
    await kubectl.waitFor("vmm", "counted", "condition=Ready", 120_000);
    for (const [index, query] of counted.entries())
      await prometheus.expect(query, (before[index]?.[0]?.value ?? 0) + 1, 60_000);
    await prometheus.expect(`count(typevisor_vm_info{${of(3)},pod="vm2-${named(3)}"})`, 1);
    await prometheus.expect(`count(typevisor_vm_info{${of(3)}})`, 1);
  });

  it("sees a machine stop: its series end, and the operator counts why", async () => {
    const ends = 'sum(typevisor_virtualmachine_terminations_total{reason="Stopped"}) or vector(0)';
    const [before] = await prometheus.query(ends);
    await kubectl.run(["patch", "vm", named(0), "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}']);
    await prometheus.expect(ends, (before?.value ?? 0) + 1, 60_000);
    await prometheus.expect(`absent(typevisor_vm_info{${ONE}})`, 1);
    await prometheus.expect(`count(typevisor_vm_info{${ALL}})`, MACHINES - 1);
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
