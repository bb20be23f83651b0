import type { TapBinding } from "../../../../../launcher/api/agent.ts";
import { AgentFailure } from "../agent-failure.ts";
import { isLinkLocal } from "./ip-address.ts";
import { CLUSTER_INTERFACE, guestAddresses, type PodInterface } from "./pod-network.ts";
import { answeredByLauncher, answeringChain, chain, GUEST_MARK, quoted, replacedTable, when } from "./rules.ts";
import type { PlanInputs, TapPlan } from "./tap-plan.ts";

type MultusBinding = Extract<TapBinding, { kind: "multus" }>;

/** Kinds of interfaces that the CNI plugins bridge, macvlan and vlan make. */
const KINDS: readonly (string | undefined)[] = ["veth", "macvlan", "vlan"];

/**
 * The guest on another network of the pod: frames pass between that interface and the TAP as they are. No bridge: it
 * would keep for itself what goes to the MAC of a macvlan, which is the guest's.
 *
 * The pod's kernel keeps the addresses that the plugin gave, for a launcher that asks again, and has no part in that
 * network: it hears nothing of it, says nothing there, nor elsewhere that the addresses are its own, and routes nothing to
 * it, so that a default route of that network's is the guest's alone.
 */
export function planMultus({ pod, names, answering }: PlanInputs, binding: MultusBinding): TapPlan {
  refuseUnfit(pod.link, binding.podInterface);
  const guest = guestAddresses(givenByPlugin(pod));
  // Behind a macvlan or vlan, the device below takes frames to this MAC only.
  const mac = pod.link.kind === "veth" ? undefined : pod.link.mac;
  const answers = { ipv4: guest?.ipv4 !== undefined, ipv6: guest?.ipv6 !== undefined };
  const answeringTap = answering ? names.answering : undefined;
  const [podLink, guestLink] = [quoted(pod.link.name), quoted(names.tap)];
  const rules = replacedTable("netdev", `typevisor-${pod.link.name}`, [
    chain("pod", [
      `type filter hook ingress device ${podLink} priority 0; policy drop;`,
      ...when(mac !== undefined, `ether saddr ${mac} drop`),
      `fwd to ${guestLink}`,
    ]),
    chain("guest", [
      `type filter hook ingress device ${guestLink} priority 0; policy drop;`,
      ...when(mac !== undefined, `ether saddr != ${mac} drop`),
      ...answeredByLauncher(answers, answeringTap),
      `meta mark set ${GUEST_MARK} fwd to ${podLink}`,
    ]),
    chain("out", [
      `type filter hook egress device ${podLink} priority 0; policy drop;`,
      `meta mark ${GUEST_MARK} accept`,
    ]),
    ...when(answeringTap !== undefined, answeringChain(names.answering, names.tap)),
  ]);
  return {
    mtuBytes: pod.link.mtuBytes,
    settings: [
      { path: `ipv6/conf/${names.tap}/disable_ipv6`, value: "1", optional: true },
      // By default the kernel answers on any link for addresses of all.
      { path: `ipv4/conf/${CLUSTER_INTERFACE}/arp_ignore`, value: "1", optional: true },
    ],
    ends: [],
    // A macvlan hands on only groups that somebody joined; the guest's are unknown here.
    allMulticast: pod.link.kind !== "veth",
    routesPutAside: pod.routes.filter(({ destination }) => !(destination && isLinkLocal(destination.address))),
    rules,
    settingsOfRules: [],
    ...(mac !== undefined && { mac }),
    ...(guest !== undefined && { guest }),
  };
}

/** Without what the pod's kernel learned from that network's routers before it was wired: the guest asks them itself. */
function givenByPlugin(pod: PodInterface): PodInterface {
  const given = <T extends { readonly isLearned?: boolean }>(all: readonly T[]) =>
    all.filter((each) => !each.isLearned);
  return { ...pod, ipv4: given(pod.ipv4), ipv6: given(pod.ipv6), routes: given(pod.routes) };
}

function refuseUnfit({ name, kind }: PodInterface["link"], asked: string): void {
  if (name === CLUSTER_INTERFACE)
    throw new AgentFailure(
      "NetworkUnfit",
      `${asked} is the pod's interface on the cluster network: use masquerade or podIP`,
    );
  if (!KINDS.includes(kind))
    throw new AgentFailure(
      "NetworkUnfit",
      `the pod's interface ${name} is of kind ${kind ?? "hardware"}; a NetworkAttachmentDefinition for a machine must be of type bridge, macvlan or vlan`,
    );
}
