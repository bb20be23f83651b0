import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { addresses, familyAddresses, layoutOf } from "../../hack/dev-cluster/layout.ts";
import { onNativeNode } from "../../hack/dev-cluster/native/node.ts";
import { ensureTools } from "../../hack/dev-cluster/tools/tools.ts";
import { run } from "../../hack/lib/step.ts";
import { CLUSTER_NAME, openTestCluster, type TestCluster } from "../support/cluster.ts";
import { datagramAnswers, datagramAnswersToNode, nodePod } from "../support/datagrams.ts";
import { eventually } from "../support/eventually.ts";
import { datagramFrame, dhcpOffer, dhcpQuestion } from "../support/frames.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { networkDefinition, ownNetwork } from "../support/networks.ts";
import { answerTo, openConsole, podOf, tellGuest, testGuest } from "../support/vm.ts";

/** A cable of the node's, made for this test: pods are on one end, and the other stands for the rest of that network. */
const MASTER = "tv-e2e-pods";
const BEYOND = "tv-e2e-beyond";
const OUTSIDE = "10.0.2.1";
const NODES = `${addresses.controlPlane}/32`;
/** The first of the network, and the one that the test guest answers for. */
const GUEST = "10.0.2.2";
const ECHO_PORT = 4000;

const network = {
  cniVersion: "1.0.0",
  name: "tv-e2e-macvlan",
  type: "macvlan",
  master: MASTER,
  mode: "bridge",
  ipam: {
    type: "host-local",
    ranges: [[{ subnet: "10.0.2.0/24", rangeStart: GUEST, gateway: OUTSIDE }]],
    // The node's own addresses are beyond that network as well.
    routes: [{ dst: "0.0.0.0/0" }, { dst: NODES }],
  },
};
const lan = { name: "lan", multus: { networkName: "lan" } };

describe("machines on a macvlan of the node", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    await onNode(removal);
    await onNode(`
      ip link add ${MASTER} type veth peer name ${BEYOND}
      ip addr add ${OUTSIDE}/24 dev ${BEYOND}
      ip link set ${BEYOND} up
      ip link set ${MASTER} up
    `);
    kubectl = await cluster.namespace("macvlan");
    await kubectl.apply(networkDefinition("lan", network));
    await kubectl.apply(testGuest("first", { interfaces: [lan] }));
    await kubectl.waitFor("vm", "first", "condition=Ready");
    const both = [{ name: "default", masquerade: {} }, lan];
    await kubectl.apply(testGuest("second", { interfaces: [lan] }));
    await kubectl.apply(testGuest("both", { interfaces: both }));
    await kubectl.apply(nodePod("pod", { networks: "lan" }));
    for (const name of ["second", "both"]) await kubectl.waitFor("vm", name, "condition=Ready");
    await kubectl.waitFor("pod", "pod", "condition=Ready");
  });
  afterAll(async () => {
    await cluster.dropNamespace("macvlan");
    await onNode(removal);
  });

  /** What Multus has told of a machine's network, once the machine's status has it as well. */
  const told = (name: string) =>
    eventually(`status of ${name}`, 30_000, async () => {
      const own = ownNetwork(await kubectl.get("pod", podOf(name)));
      const seen = (await kubectl.get("vm", name))?.status.interfaces?.find((each) => each.name === lan.name);
      expect(seen).toMatchObject({ mac: own.mac, ipAddresses: own.ips, state: "Up" });
      return { mac: own.mac, address: own.ips[0] ?? "" };
    });
  const offered = async (name: string) => {
    await using console = await openConsole(kubectl, name);
    return dhcpOffer(await answerTo(console, dhcpQuestion((await told(name)).mac), "02010600[0-9a-f]+"));
  };
  /** From then on, so the last thing that is said to it in a run. */
  const answers = (name: string) => tellGuest(kubectl, name, "netecho 1000000", /net up/);

  it("have the MAC address of their interface, and are told the address that the plugin gave it", async () => {
    const first = await told("first");
    expect(first.address).toBe(GUEST);
    expect(first.mac).toMatch(/^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
    expect(await offered("first")).toEqual({ address: GUEST, netmask: "255.255.255.0", router: OUTSIDE });
    const second = await told("second");
    expect(second.mac).not.toBe(first.mac);
    expect((await offered("second")).address).toBe(second.address);
    await kubectl.vmCondition("first", "Migratable", "True");
  });

  it("are reached from that network, from pods on it, and from each other", async () => {
    const guest = [{ address: GUEST, port: ECHO_PORT }];
    await answers("first");
    expect(await datagramAnswersToNode(guest)).toEqual(["hello"]);
    expect(await datagramAnswers(kubectl, "pod", guest)).toEqual(["hello"]);
    const [first, second] = [await told("first"), await told("second")];
    await using console = await openConsole(kubectl, "second");
    const word = Buffer.from("from the second to the first");
    const frame = datagramFrame({ ...second, port: 4001 }, { ...first, port: ECHO_PORT }, word);
    await answerTo(console, frame, word.toString("hex"));
  });

  it("keep their MAC address over a restart, and are told what the plugin gives then", async () => {
    const [before, vm] = [await told("first"), await kubectl.get("vm", "first")];
    await kubectl.run(["delete", "pod", podOf("first")]);
    await eventually("another run", 90_000, async () => {
      const next = await kubectl.get("vm", "first");
      return next?.status.podUID !== vm?.status.podUID && next?.status.phase === "Running";
    });
    const after = await told("first");
    expect(after.mac).toBe(before.mac);
    expect(await offered("first")).toEqual({ address: after.address, netmask: "255.255.255.0", router: OUTSIDE });
    await answers("first");
    expect(await datagramAnswersToNode([{ address: GUEST, port: ECHO_PORT }])).toEqual(["hello"]);
  });

  it("leave the pod its own routes, though that network has others", async () => {
    for (const name of ["first", "both"]) {
      const ips = (await kubectl.get("pod", podOf(name)))?.status.podIPs ?? [];
      const asked = ips.map(({ ip }) => [
        ip,
        ip.includes(":") ? familyAddresses.IPv6.controlPlane : addresses.controlPlane,
      ]);
      const answers = ips.map(() => 200);
      // From an address that is not on the pods' link: what is answered takes the pod's default route.
      expect({
        name,
        asked,
        answers: await onNode(`exec ${process.execPath} -e '${ASK_LAUNCHERS}' '${JSON.stringify(asked)}'`),
      }).toEqual({
        name,
        asked,
        answers: `${JSON.stringify(answers)}\n`,
      });
    }
  });
});

const ASK_LAUNCHERS = `
const { get } = require("node:http");
const ask = ([host, localAddress]) => new Promise((resolve) => {
  const asked = get({ host, localAddress, port: 10080, path: "/metrics", agent: false, timeout: 5000 }, (answer) => {
    answer.resume();
    resolve(answer.statusCode);
  });
  asked.on("timeout", () => asked.destroy(new Error("no answer")));
  asked.on("error", (error) => resolve(error.message));
});
Promise.all(JSON.parse(process.argv[1]).map(ask)).then((answers) => console.log(JSON.stringify(answers)));
`;

const removal = `ip link delete ${MASTER} 2>/dev/null; rm -rf /var/lib/cni/networks/${network.name}`;

async function onNode(script: string): Promise<string> {
  return run(onNativeNode(layoutOf(CLUSTER_NAME), await ensureTools(), ["sh", "-c", script]));
}
