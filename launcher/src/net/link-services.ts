import { type Endpoints, icmpv6Frame, udpFrame } from "./build-frame.ts";
import { Dhcp4Server } from "./dhcp4.ts";
import { Dhcp6Server } from "./dhcp6.ts";
import type { GuestNetwork } from "./guest-network.ts";
import * as protocols from "./protocols.ts";
import { neighbourAdvertisement, routerAdvertisement } from "./router-advertisement.ts";

/** Where answers come from, where the gateway's MAC is not known: nobody's, and nothing is ever sent to it. */
const SERVER_MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 1);
const BROADCAST_MAC = new Uint8Array(6).fill(0xff);
const BROADCAST_IPV4 = new Uint8Array(4).fill(0xff);
/** ff02::1 and its MAC. */
const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
/** Answers come from here where the network has no router. */
const NO_ROUTER = Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

const IP = protocols.ETHERNET_HEADER_BYTES;
const IPV6_PAYLOAD = IP + protocols.IPV6_HEADER_BYTES;

/** What a guest's network does for it: DHCPv4, DHCPv6, router advertisements. It answers frames with frames. */
export class LinkServices {
  readonly #guest: GuestNetwork;
  readonly #dhcp4: Dhcp4Server | undefined;
  readonly #dhcp6: Dhcp6Server | undefined;
  readonly #router: Uint8Array;
  readonly #mac: Uint8Array;

  constructor(guest: GuestNetwork) {
    this.#guest = guest;
    this.#dhcp4 = guest.ipv4 && new Dhcp4Server(guest, guest.ipv4);
    this.#dhcp6 = guest.ipv6 && new Dhcp6Server(guest, guest.ipv6);
    this.#router = guest.ipv6?.router?.address ?? NO_ROUTER;
    this.#mac = guest.ipv6?.router?.mac ?? SERVER_MAC;
  }

  /**
   * The answer to a frame that FrameFilter found to be for these services; null where there is none. Lengths in its
   * headers are not trusted, and its checksums not looked at: it may have been on its way to be summed.
   */
  answer(frame: Uint8Array): Uint8Array | null {
    switch (((frame[12] ?? 0) << 8) | (frame[13] ?? 0)) {
      case protocols.ETHERTYPE_IPV4:
        return this.#answerDhcp4(frame);
      case protocols.ETHERTYPE_IPV6:
        return frame[IP + 6] === protocols.IPPROTO_UDP ? this.#answerDhcp6(frame) : this.#answerNeighbour(frame);
      default:
        return null;
    }
  }

  /** To be sent now and then, and when the guest's link comes up; null without IPv6. */
  advertisement(): Uint8Array | null {
    return this.#advertisementTo(ALL_NODES_MAC, ALL_NODES);
  }

  #answerDhcp4(frame: Uint8Array): Uint8Array | null {
    const payload = IP + ((frame[IP] ?? 0) & 0xf) * 4 + protocols.UDP_HEADER_BYTES;
    const reply = this.#dhcp4?.answer(frame.subarray(payload));
    if (!reply || !this.#dhcp4) return null;
    // Section 4.1: a client that has its address takes unicast, and so may one that did not set the flag; all take this.
    const ends = { sourceMac: this.#mac, source: this.#dhcp4.identifier };
    const client = frame.subarray(IP + 12, IP + 16);
    const isBound = client.some((byte) => byte !== 0);
    const to = isBound
      ? { targetMac: this.#guest.mac, target: client }
      : { targetMac: BROADCAST_MAC, target: BROADCAST_IPV4 };
    const ports = { source: protocols.PORT_DHCP_SERVER, target: protocols.PORT_DHCP_CLIENT };
    return udpFrame({ ...ends, ...to }, ports, reply);
  }

  #answerDhcp6(frame: Uint8Array): Uint8Array | null {
    const datagramBytes = ((frame[IPV6_PAYLOAD + 4] ?? 0) << 8) | (frame[IPV6_PAYLOAD + 5] ?? 0);
    const payload = frame.subarray(IPV6_PAYLOAD + protocols.UDP_HEADER_BYTES, IPV6_PAYLOAD + datagramBytes);
    const reply = this.#dhcp6?.answer(payload);
    if (!reply) return null;
    const ports = { source: protocols.PORT_DHCPV6_SERVER, target: protocols.PORT_DHCPV6_CLIENT };
    return udpFrame(this.#backTo(frame), ports, reply);
  }

  #answerNeighbour(frame: Uint8Array): Uint8Array | null {
    const router = this.#guest.ipv6?.router;
    switch (frame[IPV6_PAYLOAD]) {
      case protocols.ND_ROUTER_SOLICITATION:
        return this.advertisement();
      case protocols.ND_NEIGHBOR_SOLICITATION:
        if (!router?.isMadeUp || !router.mac) return null;
        return icmpv6Frame(this.#backTo(frame), neighbourAdvertisement(router.address, router.mac));
      default:
        return null;
    }
  }

  #advertisementTo(targetMac: Uint8Array, target: Uint8Array): Uint8Array | null {
    const { ipv6 } = this.#guest;
    if (!ipv6) return null;
    const ends: Endpoints = { sourceMac: this.#mac, targetMac, source: this.#router, target };
    return icmpv6Frame(ends, routerAdvertisement(this.#guest, ipv6));
  }

  #backTo(frame: Uint8Array): Endpoints {
    return {
      sourceMac: this.#mac,
      source: this.#router,
      targetMac: this.#guest.mac,
      target: frame.subarray(IP + 8, IP + 24),
    };
  }
}
