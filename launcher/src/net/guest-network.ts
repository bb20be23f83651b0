import type { GuestAddresses, GuestRoute } from "../../api/agent.ts";
import type { DhcpConfig } from "../../api/machine-config.ts";
import { ipv4Bytes, ipv6Bytes, isLinkLocalIpv6, macBytes, parseNetwork } from "./addresses.ts";
import type { Resolver } from "./resolver.ts";

/** A route besides the default one. Addresses are bytes. */
export interface Route {
  readonly destination: Uint8Array;
  readonly prefixLength: number;
  /** Absent: the destination is on the link. */
  readonly gateway?: Uint8Array;
}

export interface FamilyNetwork {
  readonly address: Uint8Array;
  readonly prefixLength: number;
  readonly gateway?: Uint8Array;
  readonly routes: readonly Route[];
  readonly dnsServers: readonly Uint8Array[];
  readonly ntpServers: readonly Uint8Array[];
}

/** The IPv6 router as the guest shall know it: by a link-local address. */
export interface Router {
  readonly address: Uint8Array;
  /** Said in router advertisements, so that the guest need not ask; absent where the router answers for itself. */
  readonly mac?: Uint8Array;
  /** Nobody else answers for `address`. */
  readonly isMadeUp: boolean;
}

/** All that DHCP, DHCPv6 and router advertisements tell a guest. */
export interface GuestNetwork {
  readonly mac: Uint8Array;
  readonly mtuBytes: number;
  readonly hostname?: string;
  readonly searchDomains: readonly string[];
  readonly ipv4?: FamilyNetwork;
  readonly ipv6?: FamilyNetwork & { readonly router?: Router };
}

export interface GuestNetworkParts {
  readonly mac: string;
  readonly mtuBytes: number;
  readonly addresses: GuestAddresses;
  readonly dhcp?: DhcpConfig | undefined;
  readonly resolver: Resolver;
}

/** What a gateway with a global address is called in router advertisements. */
const MADE_UP_ROUTER = "fe80::1";

/** Throws RangeError where an address is none. */
export function guestNetwork({ mac, mtuBytes, addresses, dhcp, resolver }: GuestNetworkParts): GuestNetwork {
  const ntpServers = dhcp?.ntpServers ?? [];
  const { ipv4, ipv6 } = addresses;
  return {
    mac: macBytes(mac),
    mtuBytes,
    ...(dhcp?.hostname !== undefined && { hostname: dhcp.hostname }),
    searchDomains: resolver.searchDomains,
    ...(ipv4 && {
      ipv4: {
        ...family(ipv4, ipv4Bytes),
        dnsServers: resolver.nameservers.filter((server) => !server.includes(":")).map(ipv4Bytes),
        ntpServers: ntpServers.filter((server) => !server.includes(":")).map(ipv4Bytes),
      },
    }),
    ...(ipv6 && {
      ipv6: {
        ...family(ipv6, ipv6Bytes),
        ...(ipv6.gateway !== undefined && { router: router(ipv6Bytes(ipv6.gateway), ipv6.gatewayMac) }),
        dnsServers: resolver.nameservers.filter((server) => server.includes(":")).map(ipv6Bytes),
        ntpServers: ntpServers.filter((server) => server.includes(":")).map(ipv6Bytes),
      },
    }),
  };
}

interface Family {
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway?: string;
  readonly routes?: readonly GuestRoute[];
}

function family(from: Family, bytes: (text: string) => Uint8Array) {
  return {
    address: bytes(from.address),
    prefixLength: from.prefixLength,
    ...(from.gateway !== undefined && { gateway: bytes(from.gateway) }),
    routes: (from.routes ?? []).map(({ destination, gateway }): Route => {
      const network = parseNetwork(destination);
      return {
        destination: network.address,
        prefixLength: network.prefixLength,
        ...(gateway !== undefined && { gateway: bytes(gateway) }),
      };
    }),
  };
}

function router(gateway: Uint8Array, gatewayMac: string | undefined): Router {
  const mac = gatewayMac === undefined ? {} : { mac: macBytes(gatewayMac) };
  if (isLinkLocalIpv6(gateway)) return { address: gateway, ...mac, isMadeUp: false };
  if (gatewayMac === undefined) throw new RangeError("an IPv6 gateway that is not link-local needs its MAC address");
  return { address: ipv6Bytes(MADE_UP_ROUTER), ...mac, isMadeUp: true };
}
