import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { MULTUS_NETWORKS_ANNOTATION } from "../../crds/src/interface.ts";
import type { IpFamilies } from "../../hack/dev-cluster/layout.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { datagramAnswers, datagramAnswersToNode, nodePod } from "../support/datagrams.ts";
import { bridgeConfiguration, changeNetworks, removeNetwork } from "../support/dynamic-networks.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { networkDefinition } from "../support/networks.ts";
import { fetchFrom, runIn, toolboxPod, urlHost } from "../support/toolbox.ts";
import { guestAnswers, openConsole, podOf, tellGuest, testGuest } from "../support/vm.ts";

const times = { periodSeconds: 1, failureThreshold: 2 };

const ECHO_PORT = 4000;
const NODE_PORT = 30400;
/** The test guest sends back what is sent to it, and no more: what else guests do is tested with Linux, on the quickstart's cluster. */
const NETECHO = "netecho 1000000";

describe("a machine on the pod network", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let families: IpFamilies;

  beforeAll(async () => {
    cluster = await openTestCluster();
    families = cluster.families;
    kubectl = await cluster.namespace("network");
    await kubectl.apply(toolboxPod("toolbox"));
    await kubectl.apply(nodePod("sender"));
    await kubectl.apply({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "machines" },
      spec: { clusterIP: "None", ipFamilyPolicy: "PreferDualStack", selector: { tier: "web" } },
    });
    await kubectl.apply(testGuest("plain", { template: { spec: { hostname: "web-0", subdomain: "machines" } } }));
    for (const pod of ["toolbox", "sender"]) await kubectl.waitFor("pod", pod, "condition=Ready");
    await kubectl.waitFor("vm", "plain", "condition=Ready");
  });
  afterAll(() => cluster.dropNamespace("network"));

  const merge = (name: string, patch: object) =>
    kubectl.run(["patch", "vm", name, "--type=merge", "-p", JSON.stringify(patch)]);
  const interfaceOf = async (name: string) => (await kubectl.get("vm", name))?.status.interfaces?.[0];

  const podIps = async (name: string) =>
    ((await kubectl.get("pod", podOf(name)))?.status.podIPs ?? []).map(({ ip }) => ip);

  it("has one interface by default, with the pod's addresses and a MAC address that outlives the pod", async () => {
    const vm = await kubectl.get("vm", "plain");
    const first = vm?.status.interfaces?.[0];
    expect(vm?.spec["interfaces"]).toBeUndefined();
    expect(first).toMatchObject({ name: "default", state: "Up", ipAddresses: await podIps("plain") });
    const ranges = { IPv4: /^10\.244\.1\./, IPv6: /^fd00:10:244:1::/ };
    expect(first?.ipAddresses).toEqual(families.map((family) => expect.stringMatching(ranges[family])));
    expect(first?.ipAddresses?.[0]).toBe(vm?.status.podIP);
    expect(first?.mac).toMatch(/^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
    await kubectl.run(["delete", "pod", podOf("plain")]);
    await eventually("another run", 90_000, async () => {
      const next = await kubectl.get("vm", "plain");
      return next?.status.podUID !== vm?.status.podUID && next?.status.phase === "Running";
    });
    expect((await interfaceOf("plain"))?.mac).toBe(first?.mac);
  });

  it("keeps the launcher's own ports reachable, and its cable is pulled and plugged without a restart", async () => {
    const before = await kubectl.get("vm", "plain");
    const metrics = (await podIps("plain")).map((ip) => `http://${urlHost(ip)}:10080/metrics`);
    const launcherAnswers = async () => (await fetchFrom(kubectl, "toolbox", ...metrics)).match(/^typevisor_vm_info/gm);
    const pull = async (state: "Up" | "Down") => {
      await merge("plain", { spec: { interfaces: [{ name: "default", masquerade: {}, state }] } });
      await eventually(`the cable is ${state}`, 60_000, async () => (await interfaceOf("plain"))?.state === state);
      expect(await launcherAnswers()).toHaveLength(families.length);
      await kubectl.vmCondition("plain", "RestartRequired", "False");
    };
    await pull("Down");
    await pull("Up");
    expect((await kubectl.get("vm", "plain"))?.status.podUID).toBe(before?.status.podUID);
  });

  it("needs a restart for another binding, and says so", async () => {
    await merge("plain", { spec: { interfaces: [{ name: "default", podIP: {} }] } });
    const condition = await kubectl.vmCondition("plain", "RestartRequired", "True", "SpecChanged");
    expect(condition.message).toContain("spec.interfaces[default]");
  });

  it("is in a Service as soon as its labels say so, by its own name", async () => {
    const name = "web-0.machines.network.svc.cluster.local";
    expect(await runIn(kubectl, "toolbox", `nslookup ${name} || true`)).not.toMatch(/10\.244\.|fd00:10:244:/);
    await kubectl.run(["label", "vm", "plain", "tier=web"]);
    await eventually("the name is known, with an address of each family", 60_000, async () => {
      const [ips, answer] = [await podIps("plain"), await runIn(kubectl, "toolbox", `nslookup ${name} || true`)];
      return ips.length === families.length && ips.every((ip) => answer.includes(`Address: ${ip}`));
    });
    await kubectl.run(["label", "vm", "plain", "tier-"]);
    await eventually("the label is gone", 60_000, async () => {
      return (await kubectl.get("pod", podOf("plain")))?.metadata.labels?.["tier"] === undefined;
    });
  });

  it("does without a network where the list is empty", async () => {
    await kubectl.apply(testGuest("alone", { interfaces: [] }));
    const vm = await kubectl.waitFor("vm", "alone", "condition=Ready");
    expect(vm.status.interfaces ?? []).toEqual([]);
    await guestAnswers(kubectl, "alone");
  });

  it("has the pod's own address and MAC where it is to, and its launcher stays reachable", async () => {
    await kubectl.apply(testGuest("own", { interfaces: [{ name: "default", podIP: {} }] }));
    const vm = await kubectl.waitFor("vm", "own", "condition=Ready");
    expect(vm.status.interfaces?.[0]).toMatchObject({ state: "Up", ipAddresses: await podIps("own") });
    for (const ip of await podIps("own"))
      expect(await fetchFrom(kubectl, "toolbox", `http://${urlHost(ip)}:10080/metrics`)).toContain("typevisor_vm_");
    await guestAnswers(kubectl, "own");
  });

  it("is reached over all families, masqueraded or not: at its pod's, its Service's and any node's addresses", async () => {
    await kubectl.run(["label", "vm", "own", "plain", "echoes=yes"]);
    const ports = [{ port: ECHO_PORT, protocol: "UDP", nodePort: NODE_PORT }];
    const spec = { type: "NodePort", ipFamilyPolicy: "PreferDualStack", selector: { echoes: "yes" }, ports };
    await kubectl.apply({ apiVersion: "v1", kind: "Service", metadata: { name: "echo" }, spec });
    for (const name of ["own", "plain"]) await tellGuest(kubectl, name, NETECHO, /net up/);
    const pods = [...(await podIps("own")), ...(await podIps("plain"))];
    expect(pods).toHaveLength(2 * families.length);
    const service = await kubectl.get("service", "echo");
    const clusterIPs = service?.spec["clusterIPs"] as string[];
    expect(clusterIPs).toHaveLength(families.length);
    const lookUp = await runIn(kubectl, "toolbox", "nslookup echo.network.svc.cluster.local");
    for (const ip of clusterIPs) expect(lookUp).toContain(`Address: ${ip}`);
    const nodes = (await kubectl.list("nodes")) as unknown as NodeObject[];
    const nodeIps = nodes.flatMap(({ status }) =>
      status.addresses.flatMap(({ type, address }) => (type === "InternalIP" ? [address] : [])),
    );
    expect(nodeIps).toHaveLength(families.length);
    const ways = [
      ...[...pods, ...clusterIPs].map((address) => ({ address, port: ECHO_PORT })),
      ...nodeIps.map((address) => ({ address, port: NODE_PORT })),
    ];
    const answers = await datagramAnswers(kubectl, "sender", ways);
    expect({ ways, answers }).toEqual({ ways, answers: ways.map(() => "hello") });
  });

  it("is answered for beside a machine on its node that floods, whose own launcher answers as well", async () => {
    await kubectl.apply(testGuest("flooder"));
    await kubectl.waitFor("vm", "flooder", "condition=Ready");
    const [ip = ""] = await podIps("flooder");
    const sent = async () => {
      const metrics = await fetchFrom(kubectl, "toolbox", `http://${urlHost(ip)}:10080/metrics`);
      return Number(/^typevisor_vm_network_transmit_packets_total\{.*\} (\S+)$/m.exec(metrics)?.[1]);
    };
    // Without an end.
    await tellGuest(kubectl, "flooder", `echo begins\rnetbench 32 ${10 ** 12} 1000`, /^begins/m);
    await eventually("it floods", 60_000, async () => (await sent()) > 10_000);
    const before = await sent();
    const ways = [...(await podIps("own")), ...(await podIps("plain"))].flatMap((address) =>
      Array.from({ length: 10 }, () => ({ address, port: ECHO_PORT })),
    );
    expect(await datagramAnswers(kubectl, "sender", ways)).toEqual(ways.map(() => "hello"));
    expect(await sent()).toBeGreaterThan(before);
    for (const name of ["own", "plain"]) await kubectl.vmCondition(name, "Ready", "True");
    await kubectl.run(["delete", "vm", "flooder", "--timeout=60s"], { timeoutMs: 70_000 });
  });

  it("gets an interface on another network of Multus while it runs, gives it up, and has it when started with it", async () => {
    const network = { bridge: "tv-e2e", subnet: "10.0.2.0/24" };
    await kubectl.apply(networkDefinition("storage", bridgeConfiguration(network)));
    const setInterfaces = (...interfaces: object[]) => merge("alone", { spec: { interfaces } });
    const storage = { name: "storage", multus: { networkName: "storage" } };
    const pod = { kubectl, pod: podOf("alone") };
    const networksOf = async () =>
      (await kubectl.get("pod", pod.pod))?.metadata.annotations?.[MULTUS_NETWORKS_ANNOTATION];
    const before = await kubectl.get("vm", "alone");
    try {
      await setInterfaces(storage);
      await eventually("the pod asks for its network", 60_000, networksOf);
      await kubectl.vmCondition("alone", "Reconciling", "True", "InterfaceAttaching");
      await changeNetworks(cluster, pod, network);
      await eventually("the guest has it", 60_000, async () => (await interfaceOf("alone"))?.name === "storage");
      // It is the guest's first, and 10.0.2.2 the first address of the network: the one that the test guest answers for.
      expect((await interfaceOf("alone"))?.ipAddresses).toEqual(["10.0.2.2"]);
      await tellGuest(kubectl, "alone", "netecho 1", /net up/);
      expect(await datagramAnswersToNode([{ address: "10.0.2.2", port: ECHO_PORT }])).toEqual(["hello"]);
      await kubectl.vmCondition("alone", "RestartRequired", "False");
      await kubectl.vmCondition("alone", "Reconciling", "False");
      await kubectl.vmCondition("alone", "Migratable", "False", "InterfaceNotMigratable");
      await setInterfaces();
      await eventually("the pod asks for it no more", 60_000, async () => (await networksOf()) === undefined);
      expect((await kubectl.get("vm", "alone"))?.status.interfaces ?? []).toEqual([]);
      await changeNetworks(cluster, pod, network);
      expect((await kubectl.get("vm", "alone"))?.status.podUID).toBe(before?.status.podUID);
      await kubectl.run(["delete", "vm", "alone", "--timeout=60s"], { timeoutMs: 70_000 });
      await kubectl.apply(testGuest("alone", { interfaces: [storage] }));
      await kubectl.waitFor("vm", "alone", "condition=Ready");
      const [own] = await eventually("Multus to tell of it", 30_000, async () => {
        const { name, ipAddresses = [] } = (await interfaceOf("alone")) ?? {};
        return name === "storage" && ipAddresses.length > 0 && ipAddresses;
      });
      // The plugin does not give out an address twice in a row; the guest answers for its usual one all the same.
      expect(own).toMatch(/^10\.0\.2\./);
      await tellGuest(kubectl, "alone", "netecho 1", /net up/);
      expect(await datagramAnswersToNode([{ address: "10.0.2.2", port: ECHO_PORT }])).toEqual(["hello"]);
    } finally {
      await removeNetwork(network);
    }
  });

  it("has its kubelet's probes answered by a guest with the pod's own address: ready while that serves, given up when it stays away", async () => {
    const web = {
      interfaces: [{ name: "default", podIP: {} }],
      readinessProbe: { httpGet: { path: "/", port: 80 }, ...times },
      livenessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1, failureThreshold: 20 },
    };
    await kubectl.apply(testGuest("web", web));
    await kubectl.vmCondition("web", "Ready", "False", "GuestNotReady");
    const launchers = async () => {
      const metrics = (await podIps("web")).map((ip) => `http://${urlHost(ip)}:10080/metrics`);
      return (await fetchFrom(kubectl, "toolbox", ...metrics)).match(/^typevisor_vm_info/gm);
    };
    await using console = await openConsole(kubectl, "web");
    const serve = async (round: number) => {
      console.write("netserve 80\r");
      await console.expect(new RegExp(`(net serves[^]*?){${round}}`));
      await kubectl.vmCondition("web", "Ready", "True");
      expect(await launchers()).toHaveLength(families.length);
    };
    const stop = async (round: number) => {
      console.write("enough\r");
      await console.expect(new RegExp(`(net served [1-9][^]*?){${round}}`));
      await kubectl.vmCondition("web", "Ready", "False", "GuestNotReady");
      expect(await launchers()).toHaveLength(families.length);
    };
    await serve(1);
    await stop(1);
    await serve(2);
    // Through the launcher's other port, which the operator alone may use.
    const [network] = web.interfaces;
    for (const state of ["Down", "Up"]) {
      await merge("web", { spec: { interfaces: [{ ...network, state }] } });
      await kubectl.vmCondition("web", "Ready", state === "Up" ? "True" : "False");
      expect((await interfaceOf("web"))?.state).toBe(state);
    }
    await stop(2);
    expect((await kubectl.get("vm", "web"))?.status.lastTermination).toBeUndefined();
    await eventually("the guest is given up", 90_000, async () => {
      return (await kubectl.get("vm", "web"))?.status.lastTermination?.reason === "LivenessProbeFailed";
    });
  });

  it("runs and is not ready while its guest does not answer the readinessProbe", async () => {
    await kubectl.apply(testGuest("deaf", { readinessProbe: { tcpSocket: { port: 80 }, ...times } }));
    const ready = await kubectl.vmCondition("deaf", "Ready", "False", "GuestNotReady");
    expect(ready.message).toMatch(/tcpSocket of port 80/);
    await kubectl.vmCondition("deaf", "Running", "True");
    expect((await kubectl.get("vm", "deaf"))?.status.phase).toBe("Running");
  });

  it("is given up and started again when its guest does not answer the livenessProbe", async () => {
    const livenessProbe = { tcpSocket: { port: 80 }, ...times };
    await kubectl.apply(testGuest("dead", { runStrategy: "RerunOnFailure", livenessProbe }));
    await eventually("the guest is given up", 90_000, async () => {
      const { lastTermination, consecutiveCrashes } = (await kubectl.get("vm", "dead"))?.status ?? {};
      return lastTermination?.reason === "LivenessProbeFailed" && (consecutiveCrashes ?? 0) > 0;
    });
    await eventually("it is started again", 90_000, async () => {
      return ((await kubectl.get("vm", "dead"))?.status.restarts ?? 0) > 0;
    });
  });
});

interface NodeObject {
  readonly status: { readonly addresses: readonly { readonly type: string; readonly address: string }[] };
}
