import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { readState } from "../../hack/dev-cluster/state.ts";
import { builtInName } from "../../hack/first-run/built-in-target.ts";
import { run, succeeds } from "../../hack/lib/step.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl, KubeObject, Statuses } from "../support/kubectl.ts";
import { fetchFrom, runIn, TOOLBOX_PORT, toolboxPod, urlHost } from "../support/toolbox.ts";
import { podOf } from "../support/vm.ts";
import { headlessService, kubectlOf, NetworkedGuest, nodePortService, webExample } from "./guest-network.ts";

const root = join(import.meta.dirname, "..", "..");
/** Everything is built when it is the first time on a machine. */
const FIRST_TIME_MS = 40 * 60_000;
/** A guest boots on a node that is emulated. */
const BOOT_MS = 15 * 60_000;

describe("hack/quickstart", () => {
  const quickstart = (...args: string[]) =>
    run([join(root, "hack/quickstart"), ...args], { timeoutMs: FIRST_TIME_MS, echo: true });
  const podUid = () =>
    run([
      ...[join(root, "hack/cluster"), "--name", builtInName],
      ...["kubectl", "get", "vm", "hello", "--output=jsonpath={.status.podUID} {.status.restarts}"],
    ]);

  afterAll(() => succeeds([join(root, "hack/quickstart"), "--down"], { timeoutMs: 180_000 }));

  it(
    "goes from a checkout to the shell of a Debian kernel",
    async () => {
      const first = await quickstart();
      expect(first).toMatch(/The guest said while it booted:[\s\S]*Linux version \d/);
      expect(first).toMatch(/Its shell answered[\s\S]*Linux \S+ x86_64/);
      expect(first).toMatch(/hello\s+Running\s+True/);
    },
    FIRST_TIME_MS,
  );

  // Its cluster is there, with two nodes where they are emulated, and one where KVM is fast enough for Linux.
  describe("has guests on the cluster's network", () => {
    let kubectl: Kubectl;
    let hello: NetworkedGuest;
    let web: NetworkedGuest;
    /** As URLs have them, of both families. */
    let webHosts: string[] = [];
    let serviceHosts: string[] = [];
    let webIp = "";
    let toolboxes: { name: string; hosts: string[]; nodeHosts: string[] }[] = [];

    beforeAll(async () => {
      kubectl = await kubectlOf(builtInName);
      await run([
        join(root, "hack/cluster"),
        "--name",
        builtInName,
        "load-image",
        join(root, "dist/images/toolbox.tar"),
      ]);
      const nodes = (await kubectl.list("nodes")) as unknown as { metadata: { name: string }; status: NodeStatus }[];
      const helloNode = (await kubectl.get("pod", podOf("hello")))?.spec["nodeName"];
      const other = nodes.find(({ metadata }) => metadata.name !== helloNode) ?? nodes[0];
      for (const manifest of [...webExample(other?.metadata.name ?? ""), headlessService, nodePortService]) {
        await kubectl.apply(manifest);
      }
      for (const { metadata } of nodes) await kubectl.apply(toolboxPod(`toolbox-${metadata.name}`, metadata.name));
      toolboxes = await Promise.all(
        nodes.map(async ({ metadata, status }) => {
          const name = `toolbox-${metadata.name}`;
          const pod = await kubectl.waitFor("pod", name, "condition=Ready", BOOT_MS);
          const nodeIps = status.addresses.flatMap(({ type, address }) => (type === "InternalIP" ? [address] : []));
          return { name, hosts: hostsOf(pod), nodeHosts: nodeIps.map(urlHost) };
        }),
      );
      hello = await new NetworkedGuest(kubectl, "hello").ready();
      const vm = await kubectl.waitFor("vm", "web", "condition=Ready", BOOT_MS);
      webIp = vm.status.podIP ?? "";
      webHosts = hostsOf(await kubectl.get("pod", podOf("web")));
      const service = await kubectl.get("service", "web");
      const clusterIps = (service?.spec["clusterIPs"] ?? []) as string[];
      serviceHosts = clusterIps.map(urlHost);
      web = await new NetworkedGuest(kubectl, "web").ready();
    }, 2 * BOOT_MS);

    afterAll(async () => {
      await hello?.[Symbol.asyncDispose]();
      await web?.[Symbol.asyncDispose]();
    });

    it("is of both address families", () => {
      const hosts = [webHosts, serviceHosts, ...toolboxes.flatMap((toolbox) => [toolbox.hosts, toolbox.nodeHosts])];
      for (const each of hosts) expect(each).toEqual([expect.stringMatching(/^\d/), expect.stringMatching(/^\[fd00:/)]);
    });

    it("gives a guest addresses and routes of both families, name servers and name", async () => {
      expect(await hello.run("ip -4 address show dev eth0")).toMatch(/inet 10\.0\.2\.2\/24/);
      expect(await hello.run("ip route")).toMatch(/default via 10\.0\.2\.1 dev eth0/);
      const servers = /nameserver 10\.96\.0\.10\s+nameserver fd00:0*10:0*96:.*:0*a/;
      await eventually("name servers by DHCP and DHCPv6", 60_000, async () => {
        return servers.test(await hello.run("cat /etc/resolv.conf"));
      });
      expect(await hello.run("cat /etc/resolv.conf")).toMatch(/^search default\.svc\.cluster\.local /);
      expect(await hello.run("ip -6 address show dev eth0 scope global")).toContain("inet6 fd10:0:2::2/128");
      expect(await hello.run("ip -6 route")).toMatch(/default via fe80::1 dev eth0/);
      expect(await web.run("hostname")).toBe("web-0");
    });

    it("tells of its interfaces in the status", async () => {
      const [entry] = (await kubectl.get("vm", "web"))?.status.interfaces ?? [];
      expect(entry).toMatchObject({ name: "default", state: "Up" });
      expect(entry?.ipAddresses?.map(urlHost)).toEqual(webHosts);
      expect(await web.run("cat /sys/class/net/eth0/address")).toBe(entry?.mac);
    });

    it("lets pods of every node reach a guest, at its pod's address, its Service, its own name and any node", async () => {
      const { nodePort } = nodePortService.spec.ports[0] ?? {};
      const nodePorts = toolboxes.flatMap(({ nodeHosts }) => nodeHosts.map((host) => `${host}:${nodePort}`));
      const names = ["web", "web.default.svc.cluster.local", "web-0.machines"];
      const hosts = [...webHosts, ...serviceHosts, ...names, ...nodePorts];
      for (const { name } of toolboxes) {
        const answers = await fetchFrom(kubectl, name, ...hosts.map((host) => `http://${host}/hostname`));
        expect({ name, hosts, answers: answers.split("\n") }).toEqual({
          name,
          hosts,
          answers: hosts.map(() => "web-0"),
        });
      }
    });

    it("has an address of each family by its Service's name and its own", async () => {
      const [toolbox] = toolboxes;
      const known = {
        "web.default.svc.cluster.local": serviceHosts,
        "web-0.machines.default.svc.cluster.local": webHosts,
      };
      for (const [name, hosts] of Object.entries(known)) {
        const answer = await runIn(kubectl, toolbox?.name ?? "", `nslookup ${name}`);
        for (const host of hosts) expect(answer).toContain(`Address: ${host.replace(/[[\]]/g, "")}`);
      }
    });

    it("is reached through the API server, as the example says", async () => {
      const path = "/api/v1/namespaces/default/services/web:http/proxy/";
      expect(await kubectl.run(["get", "--raw", path])).toContain("Hello from a virtual machine");
    });

    it("lets a guest reach pods of every node, other guests, Services by name, nodes, and itself through its Service", async () => {
      const { nodePort } = nodePortService.spec.ports[0] ?? {};
      const nodePorts = toolboxes.flatMap(({ nodeHosts }) => nodeHosts.map((host) => `${host}:${nodePort}`));
      const pods = toolboxes.flatMap(({ name, hosts }) =>
        hosts.map((host) => ({ name, host: `${host}:${TOOLBOX_PORT}` })),
      );
      const guests = [...webHosts, ...serviceHosts, "web", "web-0.machines", ...nodePorts];
      const hosts = [...pods.map(({ host }) => host), ...guests];
      const answers = await hello.fetch(...hosts.map((host) => `http://${host}/hostname`));
      const expected = [...pods.map(({ name }) => name), ...guests.map(() => "web-0")];
      expect({ hosts, answers: answers.split("\n") }).toEqual({ hosts, answers: expected });
      const others = hostsOf(await kubectl.get("pod", podOf("hello")));
      const own = ["web", ...serviceHosts];
      const all = [...own, ...others].map((host) => `http://${host}/hostname`);
      expect((await web.fetch(...all)).split("\n")).toEqual([...own.map(() => "web-0"), ...others.map(() => "hello")]);
    });

    it("keeps the launcher's own ports, and all that the spec does not list, out of the guest", async () => {
      const [toolbox] = toolboxes;
      const fetch = (port: number) => fetchFrom(kubectl, toolbox?.name ?? "", `http://${webIp}:${port}/`);
      expect(await fetchFrom(kubectl, toolbox?.name ?? "", `http://${webIp}:10080/metrics`)).toContain("typevisor_vm_");
      await web.run("httpd -p 8081 -h /www; httpd -p 10080 -h /www");
      expect(await web.fetch("http://127.0.0.1:8081/hostname")).toBe("web-0");
      expect(await fetch(8081)).toMatch(/wget: /);
      expect(await fetch(10080)).not.toContain("Hello");
    });

    it("has no traffic from Services while its readinessProbe fails", async () => {
      await web.run("killall httpd");
      await kubectl.vmCondition("web", "Ready", "False", "GuestNotReady", 120_000);
      expect((await kubectl.get("vm", "web"))?.status).toMatchObject({ phase: "Running" });
      await eventually("the Service has no endpoint", 60_000, async () => !(await isEndpoint(kubectl)));
      await web.run("httpd -p 80 -h /www");
      await kubectl.vmCondition("web", "Ready", "True", "Running", 120_000);
      await eventually("the Service has its endpoint again", 60_000, () => isEndpoint(kubectl));
    });

    it("has its cable pulled and plugged by the spec, and is not restarted for it", async () => {
      const setState = async (state: "Up" | "Down") => {
        const vm = webExample("")[0];
        const interfaces = vm.spec.interfaces?.map((entry) => ({ ...entry, state }));
        await kubectl.run(["patch", "vm", "web", "--type=merge", "-p", JSON.stringify({ spec: { interfaces } })]);
        await eventually(`the status says ${state}`, 60_000, async () => {
          return (await kubectl.get("vm", "web"))?.status.interfaces?.[0]?.state === state;
        });
      };
      const before = (await kubectl.get("vm", "web"))?.status.podUID;
      await setState("Down");
      expect(await web.run("cat /sys/class/net/eth0/carrier")).toBe("0");
      expect(await fetchFrom(kubectl, toolboxes[0]?.name ?? "", `http://${webIp}/hostname`)).toMatch(/wget: /);
      await kubectl.vmCondition("web", "Ready", "False", "GuestNotReady", 120_000);
      await kubectl.vmCondition("web", "RestartRequired", "False");
      await setState("Up");
      expect(await web.run("cat /sys/class/net/eth0/carrier")).toBe("1");
      await kubectl.vmCondition("web", "Ready", "True", "Running", 120_000);
      expect((await kubectl.get("vm", "web"))?.status.podUID).toBe(before);
    });

    it("does not notice that node agents are started anew", async () => {
      const system = kubectl.in("typevisor-system");
      await system.run(["rollout", "restart", "daemonset/typevisor-node"]);
      await system.run(["rollout", "status", "daemonset/typevisor-node", "--timeout=5m"], { timeoutMs: 310_000 });
      expect(await fetchFrom(kubectl, toolboxes[0]?.name ?? "", `http://${webIp}/hostname`)).toBe("web-0");
      expect(await hello.fetch("http://web/hostname")).toBe("web-0");
    });
  });

  it(
    "changes nothing the second time, and removes all of it",
    async () => {
      const before = await podUid();
      const second = await quickstart();
      expect(second).toMatch(/Its shell answered[\s\S]*Linux \S+ x86_64/);
      expect(await podUid()).toBe(before);

      await quickstart("--down");
      expect(await readState(layoutOf(builtInName))).toBeUndefined();
      expect(await run(["ip", "netns", "list"])).not.toContain(`typevisor-${builtInName}`);
    },
    FIRST_TIME_MS,
  );
});

/** Addresses of a pod as URLs have them. */
function hostsOf(pod: KubeObject<Statuses["pod"]> | null): string[] {
  return (pod?.status.podIPs ?? []).map(({ ip }) => urlHost(ip));
}

interface NodeStatus {
  readonly addresses: readonly { readonly type: string; readonly address: string }[];
}

async function isEndpoint(kubectl: Kubectl): Promise<boolean> {
  const slices = (await kubectl.list("endpointslices", "kubernetes.io/service-name=web")) as unknown as {
    endpoints: { conditions: { ready: boolean } }[] | null;
  }[];
  return slices.some(({ endpoints }) => endpoints?.some(({ conditions }) => conditions.ready));
}
