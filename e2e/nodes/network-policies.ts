import { join } from "node:path";
import { beforeAll, describe, expect, it } from "@jest/globals";
import { addresses, familyAddresses } from "../../hack/dev-cluster/layout.ts";
import { RELEASE, type TestCluster } from "../support/cluster.ts";
import { datagramAnswers, type Endpoint, echoServer, nodePod } from "../support/datagrams.ts";
import { eventually } from "../support/eventually.ts";
import { datagramFrame, dnsQuestion } from "../support/frames.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { answerTo, openConsole, podOf, tellGuest, testGuest } from "../support/vm.ts";
import { START_TIMEOUT_MS } from "./qemu-cluster.ts";
import { NODES } from "./volumes.ts";

const chart = join(import.meta.dirname, "../../charts/typevisor");
const GUARDED = "guarded";
const OUTSIDE = "outside";
const ECHO_PORT = 4000;
/** Of the namespace's machines, by what they are bound to the pod network with. */
const MACHINES = ["masqueraded", "own"];
const PATIENCE_MS = 120_000;
/** The guest's gateway and itself, the same on every node: docs/networking-wiring.md. */
const GATEWAY_MAC = "02:00:00:00:00:01";
const GUEST = { address: "10.0.2.2", port: 4001 };

/** Machines in a namespace whose policies deny all that is not allowed, with an implementation that enforces them. */
export function networkPolicyTests(opened: () => TestCluster): void {
  describe("a machine in a namespace that denies all by default", () => {
    let cluster: TestCluster;
    let guarded: Kubectl;
    let outside: Kubectl;

    beforeAll(async () => {
      cluster = opened();
      [guarded, outside] = await Promise.all([cluster.namespace(GUARDED), cluster.namespace(OUTSIDE)]);
      await guarded.apply(policy("default-deny", { podSelector: {}, policyTypes: ["Ingress", "Egress"] }));
      const [first, second] = NODES;
      const on = (hostname: string) => ({
        template: { spec: { nodeSelector: { "kubernetes.io/hostname": hostname } } },
      });
      // Each has the one on its own node and the other on another.
      await guarded.apply(testGuest("masqueraded", on(first)));
      await guarded.apply(testGuest("own", { interfaces: [{ name: "default", podIP: {} }], ...on(second) }));
      const program = echoServer(ECHO_PORT);
      await outside.apply(nodePod("friend", { program, nodeName: first }));
      await outside.apply(nodePod("stranger", { program, nodeName: second }));
      for (const name of MACHINES) await guarded.waitFor("vm", name, "condition=Ready", START_TIMEOUT_MS);
      for (const name of ["friend", "stranger"])
        await outside.waitFor("pod", name, "condition=Ready", START_TIMEOUT_MS);
    }, 2 * START_TIMEOUT_MS);

    const runningMessage = async (name: string) =>
      (await guarded.get("vm", name))?.status.conditions?.find(({ type }) => type === "Running")?.message;
    const podIps = async (kubectl: Kubectl, pod: string) =>
      ((await kubectl.get("pod", pod))?.status.podIPs ?? []).map(({ ip }) => ip);
    const setPaused = (paused: boolean) =>
      guarded.run(["patch", "vm", "own", "--type=merge", "-p", JSON.stringify({ spec: { paused } })]);

    it("runs, for its kubelet may ask it, and says that the operator cannot", async () => {
      await Promise.all(
        MACHINES.map((name) =>
          eventually(`${name} tells of it`, PATIENCE_MS, async () =>
            /operator can not reach its launcher/.test((await runningMessage(name)) ?? ""),
          ),
        ),
      );
    });

    it("obeys the operator once the chart has let the controllers through", async () => {
      const more = ["--reuse-values", "--set", `networkPolicy.machineNamespaces={${GUARDED}}`];
      await cluster.helm("upgrade", RELEASE, chart, ...more, "--wait", "--timeout", "3m");
      for (const name of MACHINES)
        await eventually(`${name} is reached`, PATIENCE_MS, async () => {
          const message = await runningMessage(name);
          return message !== undefined && !message.includes("can not reach");
        });
      await setPaused(true);
      await guarded.vmCondition("own", "Paused", "True", undefined, PATIENCE_MS);
      await setPaused(false);
      await guarded.vmCondition("own", "Paused", "False", undefined, PATIENCE_MS);
    });

    it("reaches whom a policy lets it reach, the cluster's names too, and nobody else", async () => {
      await guarded.apply(friendsOnly);
      const mac = (await guarded.get("vm", "masqueraded"))?.status.interfaces?.[0]?.mac ?? "";
      const frame = ({ address, port }: Endpoint, payload: Buffer) =>
        datagramFrame({ mac, ...GUEST }, { mac: GATEWAY_MAC, address, port }, payload);
      const [[friend = ""], [stranger = ""]] = await Promise.all([
        podIps(outside, "friend"),
        podIps(outside, "stranger"),
      ]);
      await using console = await openConsole(guarded, "masqueraded");
      const allowed = Buffer.from("allowed");
      await answerTo(console, frame({ address: friend, port: ECHO_PORT }, allowed), allowed.toString("hex"));
      for (let i = 0; i < 3; i++)
        console.write(`netsend ${frame({ address: stranger, port: ECHO_PORT }, Buffer.from("denied"))}\r`);
      await console.expect(/(net sent .*?){3}/s, PATIENCE_MS);
      const question = dnsQuestion(0x7465, "kubernetes.default.svc.cluster.local");
      const { dnsService, apiService } = familyAddresses.IPv4;
      // The same number, and an answer that ends with the address.
      const answer = await answerTo(console, frame({ address: dnsService, port: 53 }, question), "7465[0-9a-f]+");
      expect(answer).toMatch(new RegExp(`${Buffer.from(apiService.split(".").map(Number)).toString("hex")}$`));
      // What comes after it has come to the stranger: so would have what the guest sent.
      expect(await datagramAnswers(outside, "friend", [{ address: stranger, port: ECHO_PORT }])).toEqual(["hello"]);
      expect(await outside.run(["logs", "friend"])).toContain("allowed");
      const heard = await outside.run(["logs", "stranger"]);
      expect(heard).toContain("hello");
      expect(heard).not.toContain("denied");
    });

    it("is reached by whom a policy lets in, over both families, on its own node and from the other, and by nobody else", async () => {
      for (const name of MACHINES) await tellGuest(guarded, name, "netecho 1000000", /net up/);
      const ips = await Promise.all(MACHINES.map((name) => podIps(guarded, podOf(name))));
      const ways = ips.flat().map((address) => ({ address, port: ECHO_PORT }));
      expect(ways).toHaveLength(4);
      const answers = (pod: string) => datagramAnswers(outside, pod, ways);
      expect(await answers("friend")).toEqual(ways.map(() => "hello"));
      expect(await answers("stranger")).toEqual(ways.map(() => "no answer"));
      await guarded.apply(policy("everybody", { ...ofMachines, policyTypes: ["Ingress"], ingress: [{}] }));
      await eventually("the stranger is let in as well", PATIENCE_MS, async () => {
        expect(await answers("stranger")).toEqual(ways.map(() => "hello"));
        return true;
      });
    });
  });
}

const policy = (name: string, spec: object) => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name },
  spec,
});
/** By the labels that the VirtualMachines have. */
const ofMachines = { podSelector: { matchExpressions: [{ key: "app", operator: "In", values: MACHINES }] } };
const friends = {
  namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": OUTSIDE } },
  podSelector: { matchLabels: { app: "friend" } },
};
const echo = [{ protocol: "UDP", port: ECHO_PORT }];
const friendsOnly = policy("friends", {
  ...ofMachines,
  policyTypes: ["Ingress", "Egress"],
  ingress: [{ from: [friends], ports: echo }],
  egress: [
    { to: [friends], ports: echo },
    // The cluster's DNS service is no pod here.
    { to: [{ ipBlock: { cidr: `${addresses.controlPlane}/32` } }], ports: [{ protocol: "UDP", port: 53 }] },
  ],
});
