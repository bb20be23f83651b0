import {
  type GuestAddresses,
  type GuestPort,
  masqueradeNetwork,
  type TapBinding,
} from "../../../../../launcher/api/agent.ts";
import { AgentFailure } from "../agent-failure.ts";
import type { PodInterface } from "./pod-network.ts";
import { answeredByLauncher, answeringChain, anyOf, chain, quoted, replacedTable, when } from "./rules.ts";
import type { LinkEnds, PlanInputs, Setting, TapPlan } from "./tap-plan.ts";

type MasqueradeBinding = Extract<TapBinding, { kind: "masquerade" }>;

const TABLE = "typevisor";
const { ipv4: v4, ipv6: v6, gatewayMac } = masqueradeNetwork;

/** What the rules are made from. */
interface Masquerade {
  readonly tap: string;
  readonly answeringTap: string | undefined;
  readonly podInterface: string;
  readonly pod4: readonly string[];
  readonly pod6: readonly string[];
  readonly binding: MasqueradeBinding;
}

/**
 * The guest behind network address translation: it has the same addresses in every pod. The TAP itself is the gateway,
 * and the pod's kernel routes between it and the pod's interface.
 */
export function planMasquerade({ pod, names, answering }: PlanInputs, binding: MasqueradeBinding): TapPlan {
  const pod4 = pod.ipv4.map(({ address }) => address);
  const pod6 = pod.ipv6.map(({ address }) => address);
  refuseUnfit(pod, [...pod4, ...pod6]);
  const masquerade: Masquerade = {
    tap: names.tap,
    answeringTap: answering ? names.answering : undefined,
    podInterface: pod.link.name,
    pod4,
    pod6,
    binding,
  };
  const ends: LinkEnds[] = [];
  if (pod4.length > 0) ends.push({ pod: v4.gateway, guest: v4.guest, guestMac: binding.mac });
  if (pod6.length > 0) ends.push({ pod: v6.gateway, guest: v6.guest, guestMac: binding.mac });
  return {
    gatewayMac,
    mtuBytes: pod.link.mtuBytes,
    settings: settings(masquerade),
    ends,
    ...(pod6.length > 0 && { linkLocal: v6.gatewayLinkLocal }),
    allMulticast: false,
    rules: [natTable(masquerade), guardTable(masquerade)].join("\n"),
    settingsOfRules: [
      // Without it a segment that conntrack takes for out of window would get no translation.
      { path: "netfilter/nf_conntrack_tcp_be_liberal", value: "1", optional: true },
      // Five days by default: what a guest forgot would be kept for as long.
      { path: "netfilter/nf_conntrack_tcp_timeout_established", value: "86400", optional: true },
    ],
    guest: guestOf(masquerade),
  };
}

function refuseUnfit({ link }: PodInterface, addresses: readonly string[]): void {
  if (addresses.length === 0)
    throw new AgentFailure("NetworkUnfit", `the pod's interface ${link.name} has no address; see its CNI plugin`);
  const used: readonly string[] = [v4.guest, v4.gateway, v6.guest, v6.gateway];
  const taken = addresses.find((each) => used.includes(each));
  if (taken !== undefined)
    throw new AgentFailure(
      "NetworkUnfit",
      `the pod's address ${taken} is one that masquerade gives the guest or its gateway; use podIP, or another pod range`,
    );
}

function guestOf({ pod4, pod6 }: Masquerade): GuestAddresses {
  const ipv4 = { address: v4.guest, prefixLength: v4.prefixLength, gateway: v4.gateway };
  const ipv6 = { address: v6.guest, prefixLength: v6.prefixLength, gateway: v6.gatewayLinkLocal };
  return { ...(pod4.length > 0 && { ipv4 }), ...(pod6.length > 0 && { ipv6 }) };
}

/** ip-sysctl.txt of the kernel. All of one namespace; what it says of "all" is the pod's "all". */
function settings({ tap, podInterface, pod4, pod6 }: Masquerade): readonly Setting[] {
  const tap4 = (name: string, value: string) => ({ path: `ipv4/conf/${tap}/${name}`, value });
  const tap6 = (name: string, value: string) => ({ path: `ipv6/conf/${tap}/${name}`, value });
  const ipv4: Setting[] = [
    tap4("forwarding", "1"),
    { path: `ipv4/conf/${podInterface}/forwarding`, value: "1" },
    // The guest takes its whole prefix for neighbours: the pod answers for those that are elsewhere.
    tap4("proxy_arp", "1"),
    { path: `ipv4/neigh/${tap}/proxy_delay`, value: "0" },
    tap4("arp_ignore", "1"),
    tap4("rp_filter", "1"),
    // Connections to the pod's 127.0.0.1, such as kubectl port-forward makes, go to the guest; the guard keeps it from there.
    tap4("route_localnet", "1"),
    tap4("accept_redirects", "0"),
    // The guest at its pod's address would be told to go there by itself.
    { path: "ipv4/conf/all/send_redirects", value: "0" },
    tap4("send_redirects", "0"),
  ];
  const ipv6: Setting[] = [
    tap6("disable_ipv6", "0"),
    tap6("addr_gen_mode", "1"),
    tap6("accept_dad", "0"),
    tap6("accept_ra", "0"),
    tap6("accept_redirects", "0"),
    // A router heeds advertisements only when told so; the pod may have its default route from them.
    { path: `ipv6/conf/${podInterface}/accept_ra`, value: "2", from: "1" },
    // IPv6 forwards for all interfaces or none.
    { path: "ipv6/conf/all/forwarding", value: "1" },
  ];
  return [
    ...(pod4.length > 0 ? ipv4 : []),
    ...(pod6.length > 0 ? ipv6 : [{ ...tap6("disable_ipv6", "1"), optional: true as const }]),
  ];
}

/** Addresses and ports: who reaches the guest, and as whom it reaches others. */
function natTable(masquerade: Masquerade): string {
  const { tap, podInterface, pod4, pod6 } = masquerade;
  const [guestLink, podLink] = [quoted(tap), quoted(podInterface)];
  const [has4, has6] = [pod4.length > 0, pod6.length > 0];
  return replacedTable("inet", TABLE, [
    chain("inbound", inboundRules(masquerade)),
    chain("prerouting", [
      "type nat hook prerouting priority dstnat; policy accept;",
      ...when(has4, `iifname ${anyOf([podLink, guestLink])} ip daddr ${anyOf(pod4)} jump inbound`),
      ...when(has6, `iifname ${anyOf([podLink, guestLink])} ip6 daddr ${anyOf(pod6)} jump inbound`),
    ]),
    chain("output", [
      "type nat hook output priority -100; policy accept;",
      ...when(has4, "ip daddr 127.0.0.1 meta l4proto tcp jump inbound"),
      ...when(has4, `ip daddr ${anyOf(pod4)} meta l4proto { tcp, udp, sctp } jump inbound`),
      ...when(has6, `ip6 daddr ${anyOf(pod6)} meta l4proto { tcp, udp, sctp } jump inbound`),
    ]),
    chain("postrouting", [
      "type nat hook postrouting priority srcnat; policy accept;",
      ...when(has4, `oifname ${podLink} ip saddr ${v4.guest} masquerade`),
      ...when(has6, `oifname ${podLink} ip6 saddr ${v6.guest} masquerade`),
      // From the guest to itself through a Service, and from the pod's own processes.
      ...when(
        has4,
        `oifname ${guestLink} ip saddr ${anyOf(["127.0.0.1", v4.guest, ...pod4])} snat ip to ${v4.gateway}`,
      ),
      ...when(has6, `oifname ${guestLink} ip6 saddr ${anyOf([v6.guest, ...pod6])} snat ip6 to ${v6.gateway}`),
    ]),
    ...forwardChains(guestLink, podLink),
  ]);
}

function inboundRules({ binding, pod4, pod6 }: Masquerade): readonly string[] {
  const { ownPorts, ports } = binding;
  const targets = [
    ...when(pod4.length > 0, `meta nfproto ipv4 MATCH dnat ip to ${v4.guest}`),
    ...when(pod6.length > 0, `meta nfproto ipv6 MATCH dnat ip6 to ${v6.guest}`),
  ];
  const matches = ports === undefined ? [""] : portMatches(ports);
  return [
    ...when(ownPorts.length > 0, `tcp dport ${anyOf(ownPorts)} return`),
    ...matches.flatMap((match) => targets.map((target) => target.replace("MATCH ", match === "" ? "" : `${match} `))),
  ];
}

function portMatches(ports: readonly GuestPort[]): readonly string[] {
  return (["TCP", "UDP", "SCTP"] as const).flatMap((protocol) => {
    const numbers = [...new Set(ports.filter((each) => each.protocol === protocol).map(({ port }) => port))];
    return when(numbers.length > 0, `${protocol.toLowerCase()} dport ${anyOf(numbers)}`);
  });
}

/** What is routed to and from the guest, and what it may say to the pod itself. All else in the pod is left alone. */
function forwardChains(guestLink: string, podLink: string): readonly string[] {
  const clampSegments = "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu";
  return [
    chain("forward", [
      "type filter hook forward priority filter; policy accept;",
      `iifname ${guestLink} goto from_guest`,
      `oifname ${guestLink} goto to_guest`,
    ]),
    chain("from_guest", [
      // It would leave without translation.
      "ct state invalid drop",
      clampSegments,
      `oifname ${podLink} accept`,
      "ct status dnat accept",
      "drop",
    ]),
    chain("to_guest", [clampSegments, "ct state established,related accept", "ct status dnat accept", "drop"]),
    chain("input", [
      "type filter hook input priority filter; policy accept;",
      `iifname ${guestLink} goto guest_to_pod`,
    ]),
    chain("guest_to_pod", [
      "ct state established,related accept",
      "icmp type echo-request accept",
      "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept",
      "drop",
    ]),
  ];
}

/** Frames of the guest: none but its own MAC and addresses get in, whatever path they come. */
function guardTable({ tap, answeringTap, pod4, pod6, binding }: Masquerade): string {
  const [has4, has6] = [pod4.length > 0, pod6.length > 0];
  return replacedTable("netdev", TABLE, [
    chain("guest", [
      `type filter hook ingress device ${quoted(tap)} priority 0; policy drop;`,
      `ether saddr != ${binding.mac} drop`,
      ...answeredByLauncher({ ipv4: true, ipv6: true }, answeringTap),
      ...when(has4, `arp saddr ether ${binding.mac} arp saddr ip ${anyOf(["0.0.0.0", v4.guest])} accept`),
      ...when(has4, `ip saddr ${v4.guest} ip daddr != 127.0.0.0/8 accept`),
      ...when(has6, `ip6 saddr ${v6.guest} accept`),
      ...when(has6, "ip6 saddr fe80::/10 meta l4proto icmpv6 accept"),
      ...when(has6, "ip6 saddr :: icmpv6 type nd-neighbor-solicit accept"),
    ]),
    ...when(answeringTap !== undefined, answeringChain(answeringTap ?? "", tap)),
  ]);
}
