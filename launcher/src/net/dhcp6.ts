import { hasBytes } from "./addresses.ts";
import { encodeDomainNames } from "./domain-names.ts";
import type { GuestNetwork } from "./guest-network.ts";

/** Message types (RFC 8415, section 7.3). */
export const dhcp6Types = {
  solicit: 1,
  advertise: 2,
  request: 3,
  confirm: 4,
  renew: 5,
  rebind: 6,
  reply: 7,
  release: 8,
  decline: 9,
  informationRequest: 11,
} as const;

// Section 21; RFC 3646 (DNS) and RFC 5908 (NTP).
const Option = {
  clientIdentifier: 1,
  serverIdentifier: 2,
  identityAssociation: 3,
  temporaryAddresses: 4,
  address: 5,
  status: 13,
  rapidCommit: 14,
  dnsServers: 23,
  domainSearch: 24,
  prefixDelegation: 25,
  ntpServer: 56,
} as const;
const NTP_SUBOPTION_ADDRESS = 1;

const Status = { success: 0, noAddress: 2, notOnLink: 4, noPrefix: 6 } as const;

/** A day, as with DHCPv4; renewed after half, asked of any server after four fifths. */
const VALID_SECONDS = 86_400;
const PREFERRED_SECONDS = 86_400;
const RENEW_SECONDS = PREFERRED_SECONDS / 2;
const REBIND_SECONDS = (PREFERRED_SECONDS * 4) / 5;

const HEADER_BYTES = 4;
const DUID_LINK_LAYER_ETHERNET = Uint8Array.of(0, 3, 0, 1);
/** Whose DUID is made of its MAC needs one: this is nobody's. */
const SERVER_MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 1);
const OPTIONS_MAX = 64;

interface Dhcp6Message {
  readonly type: number;
  readonly transaction: Uint8Array;
  readonly options: readonly Dhcp6Option[];
}

export interface Dhcp6Option {
  readonly code: number;
  readonly value: Uint8Array;
}

/** Null for what is no DHCPv6 message of a client. */
export function parseDhcp6(message: Uint8Array): Dhcp6Message | null {
  if (message.length < HEADER_BYTES) return null;
  const options = parseOptions(message.subarray(HEADER_BYTES));
  return options && { type: message[0] ?? 0, transaction: message.slice(1, HEADER_BYTES), options };
}

/** Null where an option does not end in time, or there are too many. */
export function parseOptions(bytes: Uint8Array): Dhcp6Option[] | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const options: Dhcp6Option[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + 4 > bytes.length || options.length === OPTIONS_MAX) return null;
    const end = at + 4 + view.getUint16(at + 2);
    if (end > bytes.length) return null;
    options.push({ code: view.getUint16(at), value: bytes.slice(at + 4, end) });
    at = end;
  }
  return options;
}

/** A DHCPv6 server (RFC 8415) for one guest, which always gets the same address; it keeps no leases. */
export class Dhcp6Server {
  readonly #address: Uint8Array;
  readonly #identifier = Buffer.concat([DUID_LINK_LAYER_ETHERNET, SERVER_MAC]);
  readonly #configuration: readonly Uint8Array[];

  constructor(guest: GuestNetwork, network: NonNullable<GuestNetwork["ipv6"]>) {
    this.#address = network.address;
    this.#configuration = configurationOptions(guest, network);
  }

  /** The answer to a message of the guest, or null where there is none to give (section 16 says when). */
  answer(bytes: Uint8Array): Uint8Array | null {
    const message = parseDhcp6(bytes);
    if (!message) return null;
    const client = optionValue(message, Option.clientIdentifier);
    const server = optionValue(message, Option.serverIdentifier);
    const isForUs = server !== undefined && isSame(server, this.#identifier);
    switch (message.type) {
      case dhcp6Types.solicit:
        if (!client || server) return null;
        if (optionValue(message, Option.rapidCommit))
          return this.#write(message, dhcp6Types.reply, [option(Option.rapidCommit), ...this.#assign(message)]);
        return this.#write(message, dhcp6Types.advertise, this.#assign(message));
      case dhcp6Types.request:
      case dhcp6Types.renew:
        return client && isForUs ? this.#write(message, dhcp6Types.reply, this.#assign(message)) : null;
      case dhcp6Types.rebind:
        return client && !server ? this.#write(message, dhcp6Types.reply, this.#assign(message)) : null;
      case dhcp6Types.confirm:
        return client && !server ? this.#confirm(message) : null;
      case dhcp6Types.release:
      case dhcp6Types.decline:
        return client && isForUs ? this.#write(message, dhcp6Types.reply, [status(Status.success)]) : null;
      case dhcp6Types.informationRequest:
        return server && !isForUs ? null : this.#write(message, dhcp6Types.reply, this.#configuration);
      default:
        return null;
    }
  }

  #assign(message: Dhcp6Message): readonly Uint8Array[] {
    return [...message.options.flatMap((each) => this.#association(each)), ...this.#configuration];
  }

  /** Section 21.4: an association starts with its identifier, and two times. */
  #association({ code, value }: Dhcp6Option): readonly Uint8Array[] {
    if (code === Option.temporaryAddresses && value.length >= 4)
      return [option(code, value.subarray(0, 4), status(Status.noAddress))];
    if (value.length < 12) return [];
    const identifier = value.subarray(0, 4);
    if (code === Option.prefixDelegation) return [option(code, identifier, u32(0), u32(0), status(Status.noPrefix))];
    if (code !== Option.identityAssociation) return [];
    const given = option(Option.address, this.#address, u32(PREFERRED_SECONDS), u32(VALID_SECONDS));
    // What else the client believes to have is to be forgotten.
    const foreign = this.#addressesIn(value)
      .filter((address) => !isSame(address, this.#address))
      .map((address) => option(Option.address, address, u32(0), u32(0)));
    return [option(code, identifier, u32(RENEW_SECONDS), u32(REBIND_SECONDS), given, ...foreign)];
  }

  #addressesIn(association: Uint8Array): readonly Uint8Array[] {
    return (parseOptions(association.subarray(12)) ?? [])
      .filter(({ code, value }) => code === Option.address && value.length >= 24)
      .map(({ value }) => value.subarray(0, 16));
  }

  /** Section 18.3.3. */
  #confirm(message: Dhcp6Message): Uint8Array | null {
    const addresses = message.options
      .filter(({ code, value }) => code === Option.identityAssociation && value.length >= 12)
      .flatMap(({ value }) => this.#addressesIn(value));
    if (addresses.length === 0) return null;
    const isOnLink = addresses.every((address) => isSame(address, this.#address));
    return this.#write(message, dhcp6Types.reply, [status(isOnLink ? Status.success : Status.notOnLink)]);
  }

  #write({ transaction, ...message }: Dhcp6Message, type: number, options: readonly Uint8Array[]): Uint8Array {
    const client = optionValue(message, Option.clientIdentifier);
    return Buffer.concat([
      Uint8Array.of(type),
      transaction,
      option(Option.serverIdentifier, this.#identifier),
      ...(client ? [option(Option.clientIdentifier, client)] : []),
      ...options,
    ]);
  }
}

function configurationOptions(guest: GuestNetwork, network: NonNullable<GuestNetwork["ipv6"]>): readonly Uint8Array[] {
  const { dnsServers, ntpServers } = network;
  return [
    ...(dnsServers.length > 0 ? [option(Option.dnsServers, ...dnsServers)] : []),
    ...(guest.searchDomains.length > 0 ? [option(Option.domainSearch, encodeDomainNames(guest.searchDomains))] : []),
    ...ntpServers.map((server) => option(Option.ntpServer, option(NTP_SUBOPTION_ADDRESS, server))),
  ];
}

function optionValue({ options }: Pick<Dhcp6Message, "options">, code: number): Uint8Array | undefined {
  return options.find((each) => each.code === code)?.value;
}

function status(code: number): Uint8Array {
  return option(Option.status, Uint8Array.of(code >>> 8, code & 0xff));
}

function option(code: number, ...values: readonly Uint8Array[]): Uint8Array {
  const value = Buffer.concat(values);
  const head = Uint8Array.of(code >>> 8, code & 0xff, value.length >>> 8, value.length & 0xff);
  return Buffer.concat([head, value]);
}

function u32(value: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(4));
  bytes.setUint32(0, value);
  return new Uint8Array(bytes.buffer);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && hasBytes(a, 0, b);
}
