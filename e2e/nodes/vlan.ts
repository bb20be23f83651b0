import { beforeAll, describe, expect, it } from "@jest/globals";
import type { TestCluster } from "../support/cluster.ts";
import { datagramAnswers, echoServer, nodePod } from "../support/datagrams.ts";
import { eventually } from "../support/eventually.ts";
import { datagramFrame, dhcpOffer, dhcpQuestion } from "../support/frames.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { networkDefinition, ownNetwork } from "../support/networks.ts";
import { answerTo, openConsole, podOf, tellGuest, testGuest } from "../support/vm.ts";
import { START_TIMEOUT_MS } from "./qemu-cluster.ts";
import { NODES } from "./volumes.ts";

const NAMESPACE = "tagged";
const ECHO_PORT = 4000;
const PATIENCE_MS = 120_000;
/** What the test guest answers for. */
const GUEST = "10.0.2.2";
/** Of the nodes' own cards, as node-vm.ts gives them. */
const NODE_MAC = /^52:54:00:1e:00:0b$/;

/** Tag 5 on the network that the nodes are on; each node gives out addresses by itself. */
const vlan = (name: string, rangeStart: string) =>
  networkDefinition(name, {
    cniVersion: "1.0.0",
    name,
    type: "vlan",
    master: "eth0",
    vlanId: 5,
    ipam: { type: "host-local", ranges: [[{ subnet: "10.0.2.0/24", rangeStart, gateway: "10.0.2.1" }]] },
  });

/** Native nodes may have no VLANs; a node VM's kernel has. */
export function vlanTests(opened: () => TestCluster): void {
  describe("a machine on a VLAN of its node", () => {
    let kubectl: Kubectl;

    beforeAll(async () => {
      kubectl = await opened().namespace(NAMESPACE);
      await kubectl.apply({
        apiVersion: "v1",
        kind: "List",
        items: [vlan("here", GUEST), vlan("there", "10.0.2.100")],
      });
      const [first, second] = NODES;
      await kubectl.apply(
        testGuest("tagged", {
          interfaces: [{ name: "lan", multus: { networkName: "here" } }],
          template: { spec: { nodeSelector: { "kubernetes.io/hostname": first } } },
        }),
      );
      await kubectl.apply(nodePod("peer", { program: echoServer(ECHO_PORT), nodeName: second, networks: "there" }));
      await kubectl.waitFor("vm", "tagged", "condition=Ready", START_TIMEOUT_MS);
      await kubectl.waitFor("pod", "peer", "condition=Ready", START_TIMEOUT_MS);
    }, 2 * START_TIMEOUT_MS);

    /** The machine's end, once its status says what Multus says. */
    const told = () =>
      eventually("status of the machine", PATIENCE_MS, async () => {
        const own = ownNetwork(await kubectl.get("pod", podOf("tagged")));
        const [seen] = (await kubectl.get("vm", "tagged"))?.status.interfaces ?? [];
        expect(seen).toMatchObject({ name: "lan", mac: own.mac, ipAddresses: own.ips });
        return { mac: own.mac, address: own.ips[0] ?? "" };
      });
    const speaksToPeer = async () => {
      await tellGuest(kubectl, "tagged", "netecho 1", /net up/);
      expect(await datagramAnswers(kubectl, "peer", [{ address: GUEST, port: ECHO_PORT }])).toEqual(["hello"]);
      const [own, peer] = [await told(), ownNetwork(await kubectl.get("pod", "peer"))];
      await using console = await openConsole(kubectl, "tagged");
      // It answers no ARP while it asks, but the peer knows its MAC address by now.
      const word = Buffer.from("through the tag");
      const target = { mac: peer.mac, address: peer.ips[0] ?? "", port: ECHO_PORT };
      const source = { mac: own.mac, address: GUEST, port: 4001 };
      await answerTo(console, datagramFrame(source, target, word), word.toString("hex"));
      const offer = dhcpOffer(await answerTo(console, dhcpQuestion(own.mac), "02010600[0-9a-f]+"));
      expect(offer).toMatchObject({ address: own.address, netmask: "255.255.255.0" });
    };

    it("has the MAC address of the node's interface, which it cannot take along", async () => {
      expect((await told()).mac).toMatch(NODE_MAC);
      const { message } = await kubectl.vmCondition(
        "tagged",
        "Migratable",
        "False",
        "InterfaceNotMigratable",
        PATIENCE_MS,
      );
      expect(message).toMatch(/^Interface lan has MAC address 52:54:00:1e:00:0b/);
    });

    it("is told its address, and exchanges tagged frames with a pod on another node", speaksToPeer, START_TIMEOUT_MS);

    it(
      "does so again after a restart",
      async () => {
        const before = await kubectl.get("vm", "tagged");
        await kubectl.run(["delete", "pod", podOf("tagged"), "--timeout=120s"], { timeoutMs: 130_000 });
        await eventually("another run", START_TIMEOUT_MS, async () => {
          const { podUID, phase } = (await kubectl.get("vm", "tagged"))?.status ?? {};
          return podUID !== before?.status.podUID && phase === "Running";
        });
        await speaksToPeer();
      },
      2 * START_TIMEOUT_MS,
    );
  });
}
