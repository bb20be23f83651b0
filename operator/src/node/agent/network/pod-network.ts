import type { GuestAddresses, GuestRoute } from "../../../../../launcher/api/agent.ts";
import { AgentFailure } from "../agent-failure.ts";
import { isIpv6, isLinkLocal } from "./ip-address.ts";
import type { NetlinkSocket } from "./netlink.ts";
import {
  type InterfaceAddress,
  type Link,
  listGlobalAddresses,
  listLinks,
  listRoutes,
  neighbourAt,
  type Route,
} from "./rtnetlink.ts";

/** What container runtimes call a pod's interface on the cluster's network. */
export const CLUSTER_INTERFACE = "eth0";

/** An interface that a CNI plugin gave the pod. */
export interface PodInterface {
  readonly link: Link;
  readonly ipv4: readonly InterfaceAddress[];
  readonly ipv6: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
  /** Of the IPv6 gateway, where that is not link-local and its MAC is known. */
  readonly gatewayMac?: string;
  /** Of the IPv4 gateway, where the plugin wrote it into the pod: that gateway answers no ARP. */
  readonly silentGateway?: { readonly address: string; readonly mac: string };
}

/** Throws AgentFailure where there is no such interface. */
export function lookUpPodInterface(netlink: NetlinkSocket, name: string): PodInterface {
  const link = listLinks(netlink).find((each) => each.name === name);
  if (link === undefined) throw new AgentFailure("NetworkUnfit", `the pod has no interface ${name}; ${adviceOn(name)}`);
  const addresses = listGlobalAddresses(netlink).filter(({ linkIndex }) => linkIndex === link.index);
  const found: PodInterface = {
    link,
    ipv4: addresses.filter(({ address }) => !isIpv6(address)),
    ipv6: addresses.filter(({ address }) => isIpv6(address)),
    routes: listRoutes(netlink).filter(({ linkIndex }) => linkIndex === link.index),
  };
  const gateway = routedGateway(found);
  const gatewayMac = gateway && neighbourAt(netlink, link.index, gateway)?.mac;
  const gateway4 = defaultGateway(found.routes, (address) => !isIpv6(address));
  return {
    ...found,
    ...(gatewayMac && { gatewayMac }),
    ...(gateway4 && silentGateway(netlink, link.index, gateway4)),
  };
}

function silentGateway(
  netlink: NetlinkSocket,
  linkIndex: number,
  address: string,
): Pick<PodInterface, "silentGateway"> {
  const neighbour = neighbourAt(netlink, linkIndex, address);
  return neighbour?.isPermanent ? { silentGateway: { address, mac: neighbour.mac } } : {};
}

function adviceOn(name: string): string {
  return name === CLUSTER_INTERFACE
    ? "see what the cluster's CNI plugin did in its events"
    : "see whether Multus runs on this node, and what it says in the pod's events";
}

/** The IPv6 gateway whose MAC a router advertisement has to be made up for; undefined where none is. */
export function routedGateway({ ipv6, routes }: PodInterface): string | undefined {
  if (ipv6.length === 0) return undefined;
  const gateway = defaultGateway(routes, isIpv6);
  return gateway === undefined || isLinkLocal(gateway) ? undefined : gateway;
}

function defaultGateway(routes: readonly Route[], family: (address: string) => boolean): string | undefined {
  return routes
    .filter(({ destination, gateway }) => destination === undefined && gateway !== undefined && family(gateway))
    .sort((a, b) => a.priority - b.priority)[0]?.gateway;
}

/** The addresses and routes of a pod's interface as those of a guest; undefined where it has none. */
export function guestAddresses(pod: PodInterface): GuestAddresses | undefined {
  const [ipv4, ipv6] = [pod.ipv4[0], pod.ipv6[0]];
  if (ipv4 === undefined && ipv6 === undefined) return undefined;
  return {
    ...(ipv4 && { ipv4: { ...bare(ipv4), ...gatewayAndRoutes(pod, (address) => !isIpv6(address)) } }),
    ...(ipv6 && { ipv6: { ...bare(ipv6), ...ipv6Gateway(pod), ...routesOf(pod, isIpv6) } }),
  };
}

function bare({ address, prefixLength }: InterfaceAddress): { address: string; prefixLength: number } {
  return { address, prefixLength };
}

function gatewayAndRoutes(pod: PodInterface, family: (address: string) => boolean) {
  const gateway = defaultGateway(pod.routes, family);
  return { ...(gateway !== undefined && { gateway }), ...routesOf(pod, family) };
}

/** A gateway that is not link-local goes with its MAC or not at all. */
function ipv6Gateway(pod: PodInterface): { gateway?: string; gatewayMac?: string } {
  const routed = routedGateway(pod);
  const gateway = defaultGateway(pod.routes, isIpv6);
  if (gateway === undefined) return {};
  if (routed === undefined) return { gateway };
  return pod.gatewayMac === undefined ? {} : { gateway, gatewayMac: pod.gatewayMac };
}

function routesOf({ routes }: PodInterface, family: (address: string) => boolean): { routes?: readonly GuestRoute[] } {
  const found = routes.flatMap(({ destination, gateway, ofPrefix }) => {
    if (destination === undefined || ofPrefix || !family(destination.address)) return [];
    if (isLinkLocal(destination.address)) return [];
    const route = { destination: `${destination.address}/${destination.prefixLength}` };
    return [gateway === undefined ? route : { ...route, gateway }];
  });
  return found.length === 0 ? {} : { routes: found };
}
