import { ipv4Bytes, ipv6Bytes } from "../addresses.ts";
import { dhcpTypes } from "../dhcp4.ts";
import { type Dhcp6Option, dhcp6Types, parseDhcp6, parseOptions } from "../dhcp6.ts";
import type { LinkServices } from "../link-services.ts";
import { dhcp6Option, dhcpMessage, dhcpOptionsOf, guestUdp } from "./guest.ts";

/** What a client was given; times in seconds from the moment it asked. */
interface Lease {
  readonly address: string;
  readonly renewSeconds: number;
  readonly rebindSeconds: number;
  readonly validSeconds: number;
}

type Question = "begin" | "renew" | "rebind";

/** One family's questions; `held` is the address that the client has, or believes to have. "denied" is a NAK. */
export type Asker = (services: LinkServices, question: Question, held: string) => Lease | "denied" | null;

/** RFC 2131, section 4.4.5, and RFC 8415, section 18.2.4: not more often than that. */
const RETRY_SECONDS_MIN = 60;

/** A client with one lease and a clock that is moved by hand. It asks when the RFCs say, and again where nobody answers. */
export class LeasingClient {
  readonly #ask: Asker;
  /** Who is there to answer; null while the launcher is away. */
  services: LinkServices | null;
  nowSeconds = 0;
  /** What happened: the second, the question, and the address that the client has then ("" for none). */
  readonly events: [seconds: number, question: Question, address: string][] = [];
  #lease: Lease | undefined;
  #boundAt = 0;
  #nextAt = 0;
  #believed = "";

  constructor(ask: Asker, services: LinkServices | null, believed = "") {
    this.#ask = ask;
    this.services = services;
    this.#believed = believed;
  }

  get address(): string {
    return this.#lease?.address ?? "";
  }

  /** Does all that is due until then. */
  runUntil(seconds: number): void {
    while (this.#nextAt <= seconds) {
      this.nowSeconds = this.#nextAt;
      this.#act();
    }
    this.nowSeconds = seconds;
  }

  #act(): void {
    if (this.#lease && this.nowSeconds >= this.#boundAt + this.#lease.validSeconds) this.#lease = undefined;
    const question = this.#question();
    const answer = this.services && this.#ask(this.services, question, this.#lease?.address ?? this.#believed);
    if (answer === "denied") {
      this.#lease = undefined;
      this.#believed = "";
    } else if (answer) {
      this.#lease = answer;
      this.#boundAt = this.nowSeconds;
    }
    this.events.push([this.nowSeconds, question, this.address]);
    this.#nextAt = answer && answer !== "denied" ? this.nowSeconds + answer.renewSeconds : this.#retryAt(question);
  }

  #question(): Question {
    if (!this.#lease) return "begin";
    return this.nowSeconds < this.#boundAt + this.#lease.rebindSeconds ? "renew" : "rebind";
  }

  /** Half of what is left of the state, and its end at the latest. */
  #retryAt(question: Question): number {
    if (!this.#lease || question === "begin") return this.nowSeconds + RETRY_SECONDS_MIN;
    const end = this.#boundAt + (question === "renew" ? this.#lease.rebindSeconds : this.#lease.validSeconds);
    const left = end - this.nowSeconds;
    return this.nowSeconds + Math.min(left, Math.max(RETRY_SECONDS_MIN, Math.ceil(left / 2)));
  }
}

const ANY = ipv4Bytes("0.0.0.0");
const ALL = ipv4Bytes("255.255.255.255");
const UDP_PAYLOAD_IPV4 = 42;
const UDP_PAYLOAD_IPV6 = 62;

/** DHCPv4: who has no address and believes in one asks for that (INIT-REBOOT), others for an offer first. */
export const askDhcp4: Asker = (services, question, held) => {
  const send = (source: Uint8Array, target: Uint8Array, message: Uint8Array) =>
    services.answer(guestUdp(source, target, [68, 67], message))?.subarray(UDP_PAYLOAD_IPV4) ?? null;
  const request = (options: readonly (readonly [number, ...number[]])[]) =>
    dhcpMessage({ type: dhcpTypes.request, options });
  if (question !== "begin") {
    const own = ipv4Bytes(held);
    const message = dhcpMessage({ type: dhcpTypes.request, clientAddress: [...own] });
    return lease4(send(own, question === "renew" ? ipv4Bytes("10.0.2.1") : ALL, message));
  }
  if (held !== "") return lease4(send(ANY, ALL, request([[50, ...ipv4Bytes(held)]])));
  const offer = send(ANY, ALL, dhcpMessage({ type: dhcpTypes.discover }));
  if (!offer) return null;
  const server = dhcpOptionsOf(offer).get(54) ?? [];
  const chosen = request([
    [54, ...server],
    [50, ...offer.subarray(16, 20)],
  ]);
  return lease4(send(ANY, ALL, chosen));
};

function lease4(answer: Uint8Array | null): Lease | "denied" | null {
  if (!answer) return null;
  const options = dhcpOptionsOf(answer);
  if (options.get(53)?.[0] === dhcpTypes.nak) return "denied";
  const seconds = (code: number) => Buffer.from(options.get(code) ?? []).readUInt32BE();
  return {
    address: answer.subarray(16, 20).join("."),
    renewSeconds: seconds(58),
    rebindSeconds: seconds(59),
    validSeconds: seconds(51),
  };
}

const LINK_LOCAL = ipv6Bytes("fe80::5a:12:3456");
const SERVERS = ipv6Bytes("ff02::1:2");
const CLIENT_IDENTIFIER = Uint8Array.of(0, 1, 0, 4, 0, 3, 0, 1);

/** DHCPv6. Addresses are bytes in hexadecimal. */
export const askDhcp6: Asker = (services, question, held) => {
  const send = (type: number, ...options: readonly Uint8Array[]) => {
    const message = Buffer.concat([Uint8Array.of(type, 1, 2, 3), CLIENT_IDENTIFIER, ...options]);
    const answer = services.answer(guestUdp(LINK_LOCAL, SERVERS, [546, 547], message));
    return (answer && parseDhcp6(answer.subarray(UDP_PAYLOAD_IPV6))?.options) ?? null;
  };
  const address = Buffer.from(held, "hex");
  const within = address.length > 0 ? dhcp6Option(5, address, new Uint8Array(8)) : new Uint8Array(0);
  const association = dhcp6Option(3, Uint8Array.of(0, 0, 0, 1), new Uint8Array(8), within);
  if (question === "rebind") return lease6(send(dhcp6Types.rebind, association));
  // A client has kept who its server is; ours is always the same one, so that it can be asked for anew.
  const server = send(dhcp6Types.solicit, association)?.find(({ code }) => code === 2)?.value;
  if (!server) return null;
  const type = question === "renew" ? dhcp6Types.renew : dhcp6Types.request;
  return lease6(send(type, dhcp6Option(2, server), association));
};

function lease6(options: readonly Dhcp6Option[] | null): Lease | null {
  const association = options?.find(({ code }) => code === 3)?.value;
  if (!association) return null;
  const times = Buffer.from(association);
  const valid = (parseOptions(association.subarray(12)) ?? [])
    .filter(({ code }) => code === 5)
    .map(({ value }) => Buffer.from(value))
    .filter((value) => value.readUInt32BE(20) > 0);
  const [given] = valid;
  if (!given || valid.length > 1) return null;
  return {
    address: given.toString("hex", 0, 16),
    renewSeconds: times.readUInt32BE(4),
    rebindSeconds: times.readUInt32BE(8),
    validSeconds: given.readUInt32BE(20),
  };
}
