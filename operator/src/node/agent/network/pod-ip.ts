import type { TapBinding } from "../../../../../launcher/api/agent.ts";
import { AgentFailure } from "../agent-failure.ts";
import { isIpv6, isLinkLocal, parseAddress } from "./ip-address.ts";
import { guestAddresses, type PodInterface } from "./pod-network.ts";
import {
  answeredByLauncher,
  answeringChain,
  anyOf,
  chain,
  deletedTable,
  GUEST_MARK,
  quoted,
  replacedTable,
  when,
} from "./rules.ts";
import type { PlanInputs, Setting, TapPlan } from "./tap-plan.ts";

type PodIpBinding = Extract<TapBinding, { kind: "podIP" }>;

const TABLE = "typevisor";
/** Flows that the pod's own processes began; each forgets itself. */
const FLOW_SET_OPTIONS = "flags dynamic,timeout; size 65535; timeout 1h;";

interface Redirect {
  readonly tap: string;
  readonly answeringTap: string | undefined;
  readonly podInterface: string;
  readonly mac: string;
  readonly pod4: string | undefined;
  readonly pod6: string | undefined;
  /** Link-local gateways, whom the guest must not pass for. */
  readonly gateways: readonly string[];
  readonly silentGateway: string | undefined;
  readonly ownPorts: readonly number[];
}

/**
 * The guest with the pod's own address and MAC: frames pass between the pod's interface and the TAP as they are. The
 * pod's kernel keeps that address too, for the launcher's own ports and for what the launcher begins.
 */
export function planPodIp({ pod, names, answering }: PlanInputs, { ownPorts }: PodIpBinding): TapPlan {
  const guest = guestAddresses(pod);
  if (guest === undefined)
    throw new AgentFailure("NetworkUnfit", `the pod's interface ${pod.link.name} has no address; see its CNI plugin`);
  if (!pod.link.isEthernet)
    throw new AgentFailure(
      "NetworkUnfit",
      `the pod's interface ${pod.link.name} carries no Ethernet frames with this CNI plugin; use masquerade`,
    );
  const redirect: Redirect = {
    tap: names.tap,
    answeringTap: answering ? names.answering : undefined,
    podInterface: pod.link.name,
    mac: pod.link.mac,
    pod4: guest.ipv4?.address,
    pod6: guest.ipv6?.address,
    gateways: linkLocalGateways(pod),
    silentGateway: pod.silentGateway?.address,
    ownPorts,
  };
  return {
    ...(pod.silentGateway && { gatewayMac: pod.silentGateway.mac }),
    mtuBytes: pod.link.mtuBytes,
    settings: [
      // The pod's kernel has nothing to say on the TAP, but for the gateway.
      { path: `ipv6/conf/${names.tap}/disable_ipv6`, value: "1", optional: true },
      ...(pod.silentGateway ? answeringForGateway(names.tap) : []),
    ],
    ends: [],
    // A macvlan hands on only groups that somebody joined; the guest's are unknown here.
    allMulticast: pod.link.kind !== "veth",
    rules: [...deletedTable("inet", TABLE), redirectTable(redirect)].join("\n"),
    settingsOfRules: [],
    mac: pod.link.mac,
    guest,
  };
}

/** The kernel answers ARP for what it would reach elsewhere, with the MAC of the TAP, which is then the gateway's. */
function answeringForGateway(tap: string): readonly Setting[] {
  return [
    { path: `ipv4/conf/${tap}/forwarding`, value: "1" },
    { path: `ipv4/conf/${tap}/proxy_arp`, value: "1" },
    { path: `ipv4/neigh/${tap}/proxy_delay`, value: "0" },
    // The guest asks from the pod's own address.
    { path: `ipv4/conf/${tap}/accept_local`, value: "1" },
    { path: `ipv4/conf/${tap}/rp_filter`, value: "0" },
  ];
}

function linkLocalGateways({ routes }: PodInterface): readonly string[] {
  return [
    ...new Set(routes.flatMap(({ gateway }) => (gateway && isIpv6(gateway) && isLinkLocal(gateway) ? [gateway] : []))),
  ];
}

function redirectTable(redirect: Redirect): string {
  const { tap, answeringTap, podInterface, pod4, pod6 } = redirect;
  const flowSet = (name: string, type: string) =>
    `set ${name} { type inet_proto . ${type} . inet_service . inet_service; ${FLOW_SET_OPTIONS} }`;
  return replacedTable("netdev", TABLE, [
    ...when(pod4 !== undefined, flowSet("flows4", "ipv4_addr")),
    ...when(pod6 !== undefined, flowSet("flows6", "ipv6_addr")),
    chain("out", [`meta mark set ${GUEST_MARK} fwd to ${quoted(podInterface)}`]),
    chain("pod", podRules(redirect)),
    chain("guest", guestRules(redirect)),
    chain("launcher", launcherRules(redirect)),
    ...when(answeringTap !== undefined, answeringChain(answeringTap ?? "", tap)),
  ]);
}

/** From the pod's network: to the launcher what is its own, to both what resolves neighbours, to the guest the rest. */
function podRules({ tap, podInterface, mac, pod4, pod6, ownPorts }: Redirect): readonly string[] {
  const toBoth = `dup to ${quoted(tap)} accept`;
  return [
    `type filter hook ingress device ${quoted(podInterface)} priority 0; policy drop;`,
    "meta pkttype other drop",
    // A bridge that sends frames back to where they came from: the guest would find its own address in use.
    `ether saddr ${mac} drop`,
    `ether type arp ${toBoth}`,
    ...when(pod4 !== undefined && ownPorts.length > 0, `ip daddr ${pod4} tcp dport ${anyOf(ownPorts)} accept`),
    ...when(pod4 !== undefined, `ip daddr ${pod4} meta l4proto . ip saddr . th sport . th dport @flows4 accept`),
    ...when(pod4 !== undefined, `icmp type { destination-unreachable, time-exceeded, parameter-problem } ${toBoth}`),
    ...when(pod6 !== undefined && ownPorts.length > 0, `ip6 daddr ${pod6} tcp dport ${anyOf(ownPorts)} accept`),
    ...when(pod6 !== undefined, `ip6 daddr ${pod6} meta l4proto . ip6 saddr . th sport . th dport @flows6 accept`),
    ...when(pod6 !== undefined, `meta l4proto icmpv6 icmpv6 type != { echo-request, echo-reply } ${toBoth}`),
    `fwd to ${quoted(tap)}`,
  ];
}

function guestRules(redirect: Redirect): readonly string[] {
  const { tap, answeringTap, mac, pod4, pod6, silentGateway, ownPorts } = redirect;
  const own = ownPorts.length > 0;
  return [
    `type filter hook ingress device ${quoted(tap)} priority 0; policy drop;`,
    `ether saddr != ${mac} drop`,
    // Tagged frames would leave the pod's own network.
    "ether type != { arp, ip, ip6 } drop",
    ...answeredByLauncher({ ipv4: true, ipv6: true }, answeringTap),
    // A guest that serves addresses to others.
    "udp sport { 67, 547 } drop",
    ...when(
      silentGateway !== undefined,
      `arp operation request arp saddr ether ${mac} arp saddr ip ${pod4} arp daddr ip ${silentGateway} accept`,
    ),
    ...when(pod4 !== undefined, `arp saddr ether ${mac} arp saddr ip ${anyOf(["0.0.0.0", pod4 ?? ""])} goto out`),
    // What it sends as if from the launcher's ports would end the launcher's connections.
    ...when(pod4 !== undefined && own, `ip saddr ${pod4} tcp sport ${anyOf(ownPorts)} drop`),
    ...when(pod4 !== undefined, `ip saddr ${pod4} goto out`),
    ...(pod6 === undefined ? [] : guestRules6(redirect, pod6)),
  ];
}

function guestRules6({ gateways, ownPorts }: Redirect, pod6: string): readonly string[] {
  // RFC 4861, section 4.4: the target of an advertisement stands behind 8 bytes.
  const target = "@th,64,128";
  const routers = gateways.length > 0;
  return [
    "icmpv6 type { nd-router-advert, nd-redirect } drop",
    ...when(routers, `ip6 saddr ${anyOf(gateways)} drop`),
    ...when(routers, ...gateways.map((each) => `icmpv6 type nd-neighbor-advert ${target} ${hex(each)} drop`)),
    `icmpv6 type nd-neighbor-advert ${target} != ${hex(pod6)} @th,64,10 != 0x3fa drop`,
    "ip6 saddr :: meta l4proto icmpv6 icmpv6 type { nd-neighbor-solicit, mld-listener-report, mld2-listener-report } goto out",
    ...when(ownPorts.length > 0, `ip6 saddr ${pod6} tcp sport ${anyOf(ownPorts)} drop`),
    `ip6 saddr ${pod6} goto out`,
    "ip6 saddr fe80::/10 meta l4proto icmpv6 goto out",
  ];
}

/** Remembers what the pod's own processes begin, so that its answers come to them. */
function launcherRules({ podInterface, pod4, pod6, ownPorts }: Redirect): readonly string[] {
  return [
    `type filter hook egress device ${quoted(podInterface)} priority 0; policy accept;`,
    `meta mark ${GUEST_MARK} accept`,
    ...when(ownPorts.length > 0, `tcp sport ${anyOf(ownPorts)} accept`),
    ...when(
      pod4 !== undefined,
      `ip saddr ${pod4} meta l4proto { tcp, udp } update @flows4 { meta l4proto . ip daddr . th dport . th sport }`,
    ),
    ...when(
      pod6 !== undefined,
      `ip6 saddr ${pod6} meta l4proto { tcp, udp } update @flows6 { meta l4proto . ip6 daddr . th dport . th sport }`,
    ),
  ];
}

/** An address as nftables compares raw bytes with. */
function hex(address: string): string {
  return `0x${Buffer.from(parseAddress(address)).toString("hex")}`;
}
