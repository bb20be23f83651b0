import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { TapGrant, TapWant } from "../../../../../launcher/api/agent.ts";
import { SysError } from "../../../../../launcher/src/sys/errors.ts";
import type { OwnedFd } from "../../../../../launcher/src/sys/fd.ts";
import { AgentFailure } from "../agent-failure.ts";
import { NftablesError, runNftables } from "./libnftables.ts";
import { NetlinkSocket } from "./netlink.ts";
import type { NetworkNamespace } from "./network-namespace.ts";
import { lookUpPodInterface, type PodInterface, routedGateway } from "./pod-network.ts";
import {
  addAddress,
  addHostRoute,
  askForNeighbour,
  changeLink,
  deleteLink,
  dropQueueingDiscipline,
  type Link,
  listLinks,
  neighbourAt,
  putRoutesAside,
  setNeighbour,
} from "./rtnetlink.ts";
import { type TapNames, tapAlias, tapNames } from "./tap-names.ts";
import { planTap, podInterfaceOf, type Setting, type TapPlan } from "./tap-plan.ts";
import { openTapQueue } from "./tap-queue.ts";

/** How long a launcher that has just ended may take to let go of its TAP. */
const BUSY_TIMEOUT_MS = 1_000;
const BUSY_INTERVAL_MS = 20;
/** How long a gateway may take to say its MAC. */
const GATEWAY_TIMEOUT_MS = 3_000;
const GATEWAY_INTERVAL_MS = 10;
/** Of one pod: each keeps memory of the kernel's. */
const TAPS_MAX = 8;
/** What the kernel's tun driver takes (MAX_MTU less an Ethernet header). */
const TAP_MTU_MAX_BYTES = 65_521;

/** A TAP with its wiring. The descriptors are the caller's. */
export interface WiredTap {
  readonly queues: readonly OwnedFd[];
  readonly answering: OwnedFd | undefined;
  readonly grant: Omit<TapGrant, "vhost">;
}

/**
 * Makes the TAP in the pod's namespace and wires it. What an earlier launcher of the pod left is replaced; a TAP that
 * somebody holds is not. Each call does all it does in one step of this thread, so two launchers of a pod never meet
 * half a wiring. Throws AgentFailure.
 */
export async function wireTap(
  namespace: NetworkNamespace,
  want: TapWant,
  { answering }: { readonly answering: boolean },
): Promise<WiredTap> {
  using netlink = namespace.inside(() => new NetlinkSocket());
  try {
    await learnGateway(netlink, want);
    return await wirePatiently(namespace, netlink, { want, answering });
  } catch (error) {
    throw explained(error, want);
  }
}

async function wirePatiently(
  namespace: NetworkNamespace,
  netlink: NetlinkSocket,
  { want, answering }: { readonly want: TapWant; readonly answering: boolean },
): Promise<WiredTap> {
  for (const giveUpAt = performance.now() + BUSY_TIMEOUT_MS; ; await delay(BUSY_INTERVAL_MS)) {
    try {
      return namespace.inside(() => wireNow(netlink, want, answering));
    } catch (error) {
      const busy = error instanceof AgentFailure && error.code === "DeviceBusy";
      if (!busy || performance.now() > giveUpAt) throw error;
    }
  }
}

/** Where the guest has to be told the MAC of an IPv6 gateway, has the kernel ask for it; goes on without an answer. */
async function learnGateway(netlink: NetlinkSocket, want: TapWant): Promise<void> {
  if (want.binding.kind === "masquerade") return;
  const pod = lookUpPodInterface(netlink, podInterfaceOf(want));
  const gateway = routedGateway(pod);
  if (gateway === undefined || pod.gatewayMac !== undefined) return;
  askForNeighbour(netlink, pod.link.index, gateway);
  const giveUpAt = performance.now() + GATEWAY_TIMEOUT_MS;
  while (neighbourAt(netlink, pod.link.index, gateway) === undefined && performance.now() < giveUpAt)
    await delay(GATEWAY_INTERVAL_MS);
}

function wireNow(netlink: NetlinkSocket, want: TapWant, answering: boolean): WiredTap {
  const names = tapNames(want.name);
  const pod = lookUpPodInterface(netlink, podInterfaceOf(want));
  const plan = planTap({ want, pod, names, answering });
  clearTheWay(netlink, pod, names);
  using cleanup = new DisposableStack();
  const queues = Array.from({ length: want.queues }, () =>
    cleanup.use(openTapQueue(names.tap, want.queues > 1 ? "guest of several queues" : "guest")),
  );
  const answeringTap = answering ? cleanup.use(openTapQueue(names.answering, "answering")) : undefined;
  setUp(netlink, { plan, pod, names, answering });
  cleanup.move();
  const mtuBytes = tapMtu(plan);
  const { mac, guest } = plan;
  return {
    queues,
    answering: answeringTap,
    grant: { name: want.name, device: names.tap, mtuBytes, ...(mac && { mac }), ...(guest && { guest }) },
  };
}

/** Removes our devices of those names that nobody holds. Throws where somebody does, or where they are not ours. */
function clearTheWay(netlink: NetlinkSocket, pod: PodInterface, names: TapNames): void {
  const links = listLinks(netlink);
  const taps = links.filter(({ kind, alias }) => kind === "tun" && alias?.startsWith(tapAlias("")));
  for (const link of links.filter(({ name }) => name === names.tap || name === names.answering)) {
    if (!taps.includes(link))
      throw new AgentFailure(
        "NetworkUnfit",
        `the pod has an interface ${link.name} of another's; rename the machine's`,
      );
    if (link.isHeld) throw busy(link);
    deleteLink(netlink, link.index);
  }
  const other = taps.find(
    ({ name, alias, isHeld }) => isHeld && name !== names.tap && alias === tapAlias(pod.link.name),
  );
  if (other !== undefined) throw busy(other);
  if (taps.filter(({ name }) => name !== names.tap && name.startsWith("tap-")).length >= TAPS_MAX)
    throw new AgentFailure("NetworkUnfit", `the pod has ${TAPS_MAX} TAPs already, the most that a machine gets`);
}

function busy({ name, alias }: Link): AgentFailure {
  const podInterface = alias?.slice(tapAlias("").length);
  return new AgentFailure(
    "DeviceBusy",
    `TAP ${name} on the pod's ${podInterface} is in use by another process of the pod`,
  );
}

interface SetUp {
  readonly plan: TapPlan;
  readonly pod: PodInterface;
  readonly names: TapNames;
  readonly answering: boolean;
}

/** In this order: the guard is there before a frame can pass. */
function setUp(netlink: NetlinkSocket, { plan, pod, names, answering }: SetUp): void {
  const links = listLinks(netlink);
  const alias = tapAlias(pod.link.name);
  const index = indexOf(links, names.tap);
  dropQueueingDiscipline(netlink, index);
  changeLink(netlink, index, { alias, mtuBytes: tapMtu(plan), ...(plan.gatewayMac && { mac: plan.gatewayMac }) });
  plan.settings.forEach(applySetting);
  const answeringIndex = answering ? indexOf(links, names.answering) : undefined;
  if (answeringIndex !== undefined) {
    dropQueueingDiscipline(netlink, answeringIndex);
    applySetting({ path: `ipv6/conf/${names.answering}/disable_ipv6`, value: "1", optional: true });
    // Answers never need more than the smallest frame of IPv6, but what a guest asks with may.
    changeLink(netlink, answeringIndex, { alias: `${tapAlias(pod.link.name)} answers`, mtuBytes: tapMtu(plan) });
  }
  runNftables(plan.rules);
  plan.settingsOfRules.forEach(applySetting);
  putRoutesAside(netlink, plan.routesPutAside ?? []);
  if (plan.allMulticast && !pod.link.allMulticast) changeLink(netlink, pod.link.index, { allMulticast: true });
  for (const { pod: address } of plan.ends)
    addAddress(netlink, { linkIndex: index, address, prefixLength: address.includes(":") ? 128 : 32 });
  if (plan.linkLocal !== undefined)
    addAddress(netlink, { linkIndex: index, address: plan.linkLocal, prefixLength: 64 });
  if (answeringIndex !== undefined) changeLink(netlink, answeringIndex, { up: true });
  changeLink(netlink, index, { up: true });
  for (const { pod: from, guest: to, guestMac: mac } of plan.ends) {
    addHostRoute(netlink, index, { to, from });
    setNeighbour(netlink, index, { address: to, mac });
  }
}

function indexOf(links: readonly Link[], name: string): number {
  const link = links.find((each) => each.name === name);
  if (link === undefined) throw new AgentFailure("Internal", `TAP ${name} is gone as soon as it was made`);
  return link.index;
}

function tapMtu({ mtuBytes }: TapPlan): number {
  return Math.min(mtuBytes, TAP_MTU_MAX_BYTES);
}

function applySetting({ path, value, from, optional }: Setting): void {
  const file = `/proc/sys/net/${path}`;
  try {
    if (from === undefined || readFileSync(file, "utf8").trim() === from) writeFileSync(file, value);
  } catch (error) {
    if (!optional || Object(error).code !== "ENOENT") throw error;
  }
}

/** What the kernel refuses is said with what was wanted: most of it means a module that the node lacks. */
function explained(error: unknown, { binding }: TapWant): unknown {
  if (error instanceof NftablesError)
    return new AgentFailure(
      "NetworkUnfit",
      `${error.message}; ${binding.kind} needs Linux 5.16 with nftables on the node`,
    );
  if (error instanceof SysError)
    return new AgentFailure("NetworkUnfit", `the pod's network cannot be wired for ${binding.kind}: ${error.message}`);
  return error;
}
