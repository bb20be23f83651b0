import { hasBytes, isLinkLocalIpv6 } from "./addresses.ts";
import * as protocols from "./protocols.ts";

/** What becomes of a frame that the guest sends. */
export type Verdict =
  | "pass"
  | "drop"
  /** For the launcher's own services (DHCP, router solicitations): it goes no further. */
  | "serve";

/** Who the guest may say it is. Bytes of addresses. */
export interface GuestIdentity {
  readonly mac: Uint8Array;
  readonly ipv4?: Uint8Array;
  readonly ipv6?: Uint8Array;
  /** The router's link-local address, which the guest must not take for its own. */
  readonly router?: Uint8Array;
}

export interface FilterRules {
  /** Otherwise what would be dropped passes: only what is served is picked out. */
  readonly drops: boolean;
  /** DHCP, DHCPv6 and router solicitations are for the launcher. */
  readonly serves: boolean;
  /** Neighbour solicitations for the router are, too: nobody else answers for its address. */
  readonly standsForRouter: boolean;
}

/** The most of a frame that a filter looks at; what matters beyond is dropped. */
export const FILTER_BYTES = 128;
const NO_CHECKSUM = -1;
const IPV4 = protocols.ETHERNET_HEADER_BYTES;
const IPV6 = protocols.ETHERNET_HEADER_BYTES;
const ARP = protocols.ETHERNET_HEADER_BYTES;
const ARP_BYTES = 28;
/** Hardware Ethernet, protocol IPv4, lengths 6 and 4 (RFC 826). */
const ARP_KIND = Uint8Array.of(0, 1, 8, 0, 6, 4);
const UNSPECIFIED = new Uint8Array(16);
const SERVED_BYTES_MAX = 1514;

/**
 * Stops what a guest sends in another's name: source MAC, source IP, ARP, neighbour discovery; router advertisements and
 * DHCP answers of its own; and whatever is neither ARP nor IP. Picks out what the launcher answers.
 * It decides by a copy of the frame's beginning, and that copy is what is sent.
 */
export class FrameFilter {
  readonly #identity: GuestIdentity;
  readonly #rules: FilterRules;

  constructor(identity: GuestIdentity, rules: FilterRules) {
    this.#identity = identity;
    this.#rules = rules;
  }

  /**
   * `frame` is the first FILTER_BYTES of a frame of `lengthBytes`, or all of it. `checksumStart` is where the kernel shall
   * sum from and thus write, NO_CHECKSUM for nowhere: before the transport header it would change what was looked at.
   */
  verdict(frame: Uint8Array, lengthBytes: number, checksumStart = NO_CHECKSUM): Verdict {
    const verdict = this.#judge(frame, lengthBytes, checksumStart);
    return verdict === "drop" && !this.#rules.drops ? "pass" : verdict;
  }

  #judge(frame: Uint8Array, lengthBytes: number, checksumStart: number): Verdict {
    if (lengthBytes < protocols.ETHERNET_HEADER_BYTES || !hasBytes(frame, 6, this.#identity.mac)) return "drop";
    const has = Math.min(frame.length, lengthBytes);
    switch (u16(frame, 12)) {
      case protocols.ETHERTYPE_IPV4:
        return this.#ipv4(frame, has, lengthBytes, checksumStart);
      case protocols.ETHERTYPE_IPV6:
        return this.#ipv6(frame, has, lengthBytes, checksumStart);
      case protocols.ETHERTYPE_ARP:
        return checksumStart === NO_CHECKSUM ? this.#arp(frame, has) : "drop";
      default:
        return "drop";
    }
  }

  #arp(frame: Uint8Array, has: number): Verdict {
    const { mac, ipv4 } = this.#identity;
    if (!ipv4 || has < ARP + ARP_BYTES || !hasBytes(frame, ARP, ARP_KIND) || !hasBytes(frame, ARP + 8, mac))
      return "drop";
    // A probe for an address that the guest may take has no sender (RFC 5227).
    const isProbe = hasBytes(frame, ARP + 14, UNSPECIFIED.subarray(0, 4)) && hasBytes(frame, ARP + 24, ipv4);
    return isProbe || hasBytes(frame, ARP + 14, ipv4) ? "pass" : "drop";
  }

  #ipv4(frame: Uint8Array, has: number, lengthBytes: number, checksumStart: number): Verdict {
    const { ipv4 } = this.#identity;
    const headerBytes = ((frame[IPV4] ?? 0) & 0xf) * 4;
    const transport = IPV4 + headerBytes;
    if (!ipv4 || (frame[IPV4] ?? 0) >>> 4 !== 4 || headerBytes < protocols.IPV4_HEADER_BYTES || has < transport)
      return "drop";
    if (checksumStart !== NO_CHECKSUM && checksumStart < transport) return "drop";
    const isFirst = (u16(frame, IPV4 + 6) & 0x1fff) === 0;
    if (frame[IPV4 + 9] === protocols.IPPROTO_UDP && isFirst) {
      if (has < transport + protocols.UDP_HEADER_BYTES) return "drop";
      const isWhole = (u16(frame, IPV4 + 6) & 0x2000) === 0;
      if (this.#rules.serves && u16(frame, transport + 2) === protocols.PORT_DHCP_SERVER)
        return isWhole && lengthBytes <= SERVED_BYTES_MAX ? "serve" : "drop";
      if (u16(frame, transport) === protocols.PORT_DHCP_SERVER) return "drop";
    }
    return hasBytes(frame, IPV4 + 12, ipv4) ? "pass" : "drop";
  }

  #ipv6(frame: Uint8Array, has: number, lengthBytes: number, checksumStart: number): Verdict {
    const { ipv6 } = this.#identity;
    if (!ipv6 || has < IPV6 + protocols.IPV6_HEADER_BYTES || (frame[IPV6] ?? 0) >>> 4 !== 6) return "drop";
    const source = IPV6 + 8;
    const isUnspecified = hasBytes(frame, source, UNSPECIFIED);
    if (!isUnspecified && !this.#mayBe(frame, source)) return "drop";
    let next = frame[IPV6 + 6] ?? 0;
    let at = IPV6 + protocols.IPV6_HEADER_BYTES;
    let isFragment = false;
    // Headers that other hosts would look through are looked through here, or the frame is dropped.
    for (let lengthOf = extensionLength(next); lengthOf; lengthOf = extensionLength(next)) {
      if (has < at + 8) return "drop";
      if (next === protocols.IPPROTO_FRAGMENT) {
        isFragment = true;
        // What follows the first fragment has no header to look at.
        if (u16(frame, at + 2) >>> 3 !== 0) return isUnspecified ? "drop" : "pass";
      }
      next = frame[at] ?? 0;
      at += lengthOf(frame[at + 1] ?? 0);
    }
    if (checksumStart !== NO_CHECKSUM && checksumStart < at) return "drop";
    if (next === protocols.IPPROTO_ICMPV6) {
      if (has < at + 4) return "drop";
      const type = frame[at] ?? 0;
      if (type >= protocols.ND_ROUTER_SOLICITATION && type <= protocols.ND_REDIRECT)
        return isFragment || at !== IPV6 + protocols.IPV6_HEADER_BYTES
          ? "drop"
          : this.#neighbour(frame, has, type, lengthBytes);
      // Multicast reports of an address that is not known to be free yet have no source (RFC 3590).
      return "pass";
    }
    if (next === protocols.IPPROTO_UDP) {
      if (has < at + protocols.UDP_HEADER_BYTES) return "drop";
      if (this.#rules.serves && u16(frame, at + 2) === protocols.PORT_DHCPV6_SERVER)
        return isFragment ||
          isUnspecified ||
          at !== IPV6 + protocols.IPV6_HEADER_BYTES ||
          lengthBytes > SERVED_BYTES_MAX
          ? "drop"
          : "serve";
      if (u16(frame, at) === protocols.PORT_DHCPV6_SERVER) return "drop";
    }
    return isUnspecified ? "drop" : "pass";
  }

  /** Neighbour discovery (RFC 4861), without extension headers. */
  #neighbour(frame: Uint8Array, has: number, type: number, lengthBytes: number): Verdict {
    const target = IPV6 + protocols.IPV6_HEADER_BYTES + 8;
    switch (type) {
      case protocols.ND_ROUTER_SOLICITATION:
        return this.#rules.serves && lengthBytes <= SERVED_BYTES_MAX ? "serve" : "pass";
      case protocols.ND_NEIGHBOR_SOLICITATION:
        if (has < target + 16) return "drop";
        if (hasBytes(frame, IPV6 + 8, UNSPECIFIED)) return this.#mayBe(frame, target) ? "pass" : "drop";
        return this.#rules.standsForRouter && this.#isRouter(frame, target) && lengthBytes <= SERVED_BYTES_MAX
          ? "serve"
          : "pass";
      case protocols.ND_NEIGHBOR_ADVERTISEMENT:
        return has >= target + 16 && this.#mayBe(frame, target) ? "pass" : "drop";
      default:
        return "drop";
    }
  }

  #isRouter(frame: Uint8Array, at: number): boolean {
    const { router } = this.#identity;
    return router !== undefined && hasBytes(frame, at, router);
  }

  /** The guest's own address, or one of its own making on the link. */
  #mayBe(frame: Uint8Array, at: number): boolean {
    const { ipv6 } = this.#identity;
    if (ipv6 && hasBytes(frame, at, ipv6)) return true;
    return isLinkLocalIpv6(frame.subarray(at, at + 2)) && !this.#isRouter(frame, at);
  }
}

/** Bytes of an extension header by its length field (RFC 8200, section 4; RFC 4302); undefined for what is none. */
function extensionLength(header: number): ((length: number) => number) | undefined {
  switch (header) {
    case protocols.IPPROTO_HOPOPTS:
    case protocols.IPPROTO_ROUTING:
    case protocols.IPPROTO_DSTOPTS:
      return (length) => (length + 1) * 8;
    case protocols.IPPROTO_FRAGMENT:
      return () => 8;
    case protocols.IPPROTO_AH:
      return (length) => (length + 2) * 4;
    default:
      return undefined;
  }
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}
