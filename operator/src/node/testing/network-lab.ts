import { setTimeout as delay } from "node:timers/promises";
import type {
  AgentAnswer,
  AgentWant,
  GuestAddresses,
  TapBinding,
  TapGrant,
  TapWant,
} from "../../../../launcher/api/agent.ts";
import { RunningAgent } from "./running-agent.ts";
import { cable, TestNamespace } from "./test-namespace.ts";

export const guestMac = "02:5a:00:12:34:56";
/** Where the launcher's own process listens. */
export const ownPort = 8443;
const mtuBytes = 1450;
const SEEN_DEADLINE_MS = 10_000;
/** Of the network beyond the node; less than the pod's. */
const worldMtuBytes = 1300;

export const addresses = {
  pod4: "10.244.0.5",
  pod6: "fd00:10:244::5",
  node4: "10.244.0.1",
  node6: "fd00:10:244::1",
  world4: "192.0.2.9",
  world6: "fd00:192::9",
} as const;

/** Of a second pod on the node, where there is one. */
export const neighbourAddresses = {
  pod4: "10.244.1.5",
  pod6: "fd00:10:245::5",
  node4: "10.244.1.1",
  node6: "fd00:10:245::1",
} as const;

export interface LabOptions {
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** A /32 whose gateway 169.254.1.1 is nobody's address, and the like for IPv6, as Calico has them. */
  readonly pointToPoint?: boolean;
  /** The node answers no ARP, as with Amazon's VPC CNI: the pod knows the gateway's MAC from the start. */
  readonly silentGateway?: boolean;
}

/** A pod's namespace, and that of its guest. */
export interface GuestPod {
  readonly pod: TestNamespace;
  readonly guest: TestNamespace;
}

/**
 * A guest in a pod on a node, with a world beyond; all are network namespaces. The pod's process stands for the
 * launcher: it holds the TAP and passes frames between it and the guest's eth0.
 */
export class NetworkLab implements AsyncDisposable {
  readonly agent = new RunningAgent();
  readonly node = new TestNamespace("node");
  readonly pod = new TestNamespace("pod");
  readonly world = new TestNamespace("world");
  readonly guest = new TestNamespace("guest");
  readonly options: LabOptions;

  constructor(options: LabOptions) {
    this.options = options;
    cable([this.node, "pod1"], [this.pod, "eth0"]);
    cable([this.node, "world"], [this.world, "eth0"]);
    this.node.ip(`link set pod1 mtu ${mtuBytes}`);
    this.pod.ip(`link set eth0 mtu ${mtuBytes}`);
    this.node.ip(`link set world mtu ${worldMtuBytes}`);
    this.world.ip(`link set eth0 mtu ${worldMtuBytes}`);
    // Errors by ICMP come as often as a test makes them.
    for (const each of [this.node, this.pod])
      for (const limit of ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"]) each.set(limit, "0");
    if (options.ipv4) this.#ipv4();
    if (options.ipv6) this.#ipv6();
  }

  async start(): Promise<this> {
    await this.agent.start();
    return this;
  }

  /** As a pod with hostNetwork would ask: this very process is on the network of the node. */
  async askFromNode(want: readonly AgentWant[]): Promise<{ readonly answer: AgentAnswer }> {
    using client = this.agent.connect();
    return await client.ask(want);
  }

  macOf(namespace: TestNamespace, link: string): string {
    return /link\/ether (\S+)/.exec(namespace.ip(`link show ${link}`))?.[1] ?? "";
  }

  /** Writes to the TAP what a guest sends. */
  async send(hex: string): Promise<void> {
    await this.pod.order({ do: "send", descriptor: 0, hex });
  }

  /** One more pod on the node, on a network of its own: see neighbourAddresses. */
  addNeighbour(linkMtuBytes: number): GuestPod & AsyncDisposable {
    const [pod, guest] = [new TestNamespace("pod2"), new TestNamespace("guest2")];
    cable([this.node, "pod2"], [pod, "eth0"]);
    this.node.ip(`link set pod2 mtu ${linkMtuBytes}`);
    pod.ip(`link set eth0 mtu ${linkMtuBytes}`);
    const { pod4, pod6, node4, node6 } = neighbourAddresses;
    for (const [address, gateway, prefixLength] of [
      [pod4, node4, 24],
      [pod6, node6, 64],
    ] as const) {
      this.node.ip(`addr add ${gateway}/${prefixLength} dev pod2`);
      pod.ip(`addr add ${address}/${prefixLength} dev eth0`);
      pod.ip(`route add default via ${gateway}`);
    }
    return {
      pod,
      guest,
      async [Symbol.asyncDispose]() {
        for (const each of [guest, pod]) await each[Symbol.asyncDispose]();
      },
    };
  }

  /** Wires a TAP and gives the guest what the agent says. */
  async wire(binding: TapBinding, want: Partial<TapWant> = {}, on: GuestPod = this): Promise<TapGrant> {
    const { answer } = await on.pod.ask(this.agent.socketPath, [
      { kind: "tap", name: "default", queues: 1, vhost: false, binding, ...want },
    ]);
    if (!answer.ok) throw new Error(`${answer.error.code}: ${answer.error.message} ${this.agentErrors}`);
    const [grant] = answer.taps ?? [];
    if (grant === undefined) throw new Error("no TAP was granted");
    await this.attachGuest(grant, binding, on);
    return grant;
  }

  get agentErrors(): string {
    return this.agent.lines.flatMap(({ err }) => (err instanceof Error ? [String(err.stack)] : [])).join("\n");
  }

  async attachGuest(grant: TapGrant, binding: TapBinding, { pod, guest }: GuestPod = this): Promise<void> {
    await pod.order({ do: "relay", guestNamespace: guest.path });
    const mac = grant.mac ?? (binding.kind === "masquerade" ? binding.mac : guestMac);
    guest.ip(`link set eth0 address ${mac} mtu ${grant.mtuBytes}`);
    guest.ip("link set eth0 up");
    configureGuest(guest, grant.guest ?? {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of [this.guest, this.pod, this.node, this.world]) await each[Symbol.asyncDispose]();
    await this.agent[Symbol.asyncDispose]();
  }

  #ipv4(): void {
    const { pod4, node4, world4 } = addresses;
    this.node.set("ipv4/ip_forward", "1");
    this.node.ip("addr add 192.0.2.1/24 dev world");
    this.world.ip(`addr add ${world4}/24 dev eth0`);
    this.world.ip("route add default via 192.0.2.1");
    if (this.options.pointToPoint) {
      // The node answers for any address that it would reach elsewhere.
      this.node.ip("route add default via 192.0.2.9");
      this.node.set("ipv4/conf/pod1/proxy_arp", this.options.silentGateway ? "0" : "1");
      this.node.set("ipv4/neigh/pod1/proxy_delay", "0");
      this.node.ip(`addr add ${node4}/32 dev lo`);
      this.node.ip(`route add ${pod4}/32 dev pod1 src ${node4}`);
      this.pod.ip(`addr add ${pod4}/32 dev eth0`);
      this.pod.ip("route add 169.254.1.1 dev eth0 scope link");
      this.pod.ip("route add default via 169.254.1.1");
      if (this.options.silentGateway)
        this.pod.ip(`neigh add 169.254.1.1 lladdr ${this.macOf(this.node, "pod1")} dev eth0 nud permanent`);
      return;
    }
    this.node.ip(`addr add ${node4}/24 dev pod1`);
    this.pod.ip(`addr add ${pod4}/24 dev eth0`);
    this.pod.ip(`route add default via ${node4}`);
  }

  #ipv6(): void {
    const { pod6, node6, world6 } = addresses;
    this.node.set("ipv6/conf/all/forwarding", "1");
    this.node.ip("addr add fd00:192::1/64 dev world");
    this.world.ip(`addr add ${world6}/64 dev eth0`);
    this.world.ip("route add default via fd00:192::1");
    if (this.options.pointToPoint) {
      this.node.ip(`addr add ${node6}/128 dev lo`);
      this.node.ip("addr add fe80::eeee/64 dev pod1");
      this.node.ip(`route add ${pod6}/128 dev pod1`);
      this.pod.ip(`addr add ${pod6}/128 dev eth0`);
      this.pod.ip("route add default via fe80::eeee dev eth0");
      return;
    }
    this.node.ip(`addr add ${node6}/64 dev pod1`);
    this.pod.ip(`addr add ${pod6}/64 dev eth0`);
    this.pod.ip(`route add default via ${node6}`);
  }
}

/** What a DHCP client and a router advertisement would do. */
function configureGuest(guest: TestNamespace, { ipv4, ipv6 }: GuestAddresses): void {
  for (const family of [ipv4, ipv6]) {
    if (family === undefined) continue;
    guest.ip(`addr replace ${family.address}/${family.prefixLength} dev eth0`);
    for (const { destination, gateway } of family.routes ?? [])
      guest.ip(`route replace ${destination}${gateway === undefined ? "" : ` via ${gateway}`} dev eth0`);
    if (family.gateway !== undefined) guest.ip(`route replace default via ${family.gateway} dev eth0`);
  }
}

/** Each as itself: the guest on port 80 and, where it would not be heard, on the launcher's own. */
export async function everybodyListens({ node, pod, world, guest }: NetworkLab): Promise<void> {
  const port = 80;
  for (const protocol of ["tcp", "udp"] as const) {
    await guest.order({ do: "listen", protocol, port, label: "guest" });
    await node.order({ do: "listen", protocol, port, label: "node" });
    await world.order({ do: "listen", protocol, port, label: "world" });
  }
  await guest.order({ do: "listen", protocol: "tcp", port: ownPort, label: "guest" });
  await pod.order({ do: "listen", protocol: "tcp", port: ownPort, label: "launcher" });
}

/** All that has passed in `namespace` once something that matches `last` is among it, which `send` leads to. */
export async function seenBy(
  namespace: TestNamespace,
  send: () => Promise<unknown>,
  last: RegExp,
): Promise<readonly string[]> {
  await namespace.order({ do: "sniff" });
  return await collectedBy(namespace, send, last);
}

/** As seenBy, of what is collected there anyway. */
export async function collectedBy(
  namespace: TestNamespace,
  send: () => Promise<unknown>,
  last: RegExp,
): Promise<readonly string[]> {
  await send();
  for (const giveUpAt = performance.now() + SEEN_DEADLINE_MS; performance.now() < giveUpAt; await delay(5)) {
    const seen = await namespace.seen();
    if (seen.some((packet) => last.test(packet))) return seen;
  }
  throw new Error(`nothing like ${last} came`);
}
