import { isIP, isIPv4, isIPv6 } from "node:net";
import {
  type GuestAddresses,
  type GuestIpv4,
  type GuestIpv6,
  type GuestPort,
  type GuestRoute,
  PORTS_MAX,
  TAP_QUEUES_MAX,
} from "../../api/agent.ts";
import {
  type DhcpConfig,
  INTERFACES_MAX,
  type InterfaceAttachment,
  type InterfaceConfig,
  type InterfaceLimits,
  type MachineConfig,
} from "../../api/machine-config.ts";
import { Field } from "./field.ts";

const DNS_LABEL = {
  maxBytes: 63,
  pattern: /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
  wanted: "a DNS label (lower-case letters, digits and '-')",
};
const DNS_NAME = {
  maxBytes: 253,
  pattern: /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
  wanted: "a DNS name (lower-case labels, separated by dots)",
};
/** IFNAMSIZ without the terminating zero. */
const DEVICE_NAME = {
  maxBytes: 15,
  pattern: /^[A-Za-z0-9][-_.A-Za-z0-9]*$/,
  wanted: "the name of a network device",
};
/** Even first byte: not a group. */
const MAC = {
  maxBytes: 17,
  pattern: /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/,
  wanted: "a unicast MAC address in lower case, such as 02:5a:00:12:34:56",
};
const NTP_SERVERS_MAX = 4;
const ROUTES_MAX = 64;

/** Interfaces of a machine whose /dev/kvm comes as `kvm` says: the node agent wires all but a TAP by hand. */
export function interfaces(field: Field, kvm: MachineConfig["kvm"]): readonly InterfaceConfig[] {
  const names = new Set<string>();
  return field.array(INTERFACES_MAX).map((entry) => {
    const parsed = networkInterface(entry);
    if (names.has(parsed.name))
      entry.loose("name").fail(`is "${parsed.name}", which another interface has too; give each its own name`);
    names.add(parsed.name);
    if (parsed.attachment.kind !== "tap" && !("agentSocketPath" in kvm))
      entry
        .loose("attachment")
        .fail(`is of kind ${parsed.attachment.kind}, which the node agent makes; set kvm.agentSocketPath, or use tap`);
    return parsed;
  });
}

/** Checks an InterfaceConfig that comes by itself. Throws ConfigInvalid with one sentence that names the field and the way out. */
export function parseInterfaceConfig(value: unknown): InterfaceConfig {
  return networkInterface(new Field("", value));
}

function networkInterface(field: Field): InterfaceConfig {
  const fields = field.object(["name", "mac", "queues", "link", "attachment", "dataPath", "limits", "dhcp"]);
  const { name, mac, queues, link, dataPath, limits, dhcp } = fields;
  if (mac.string(MAC) === "00:00:00:00:00:00") mac.fail(`is all zeroes; give ${MAC.wanted}`);
  return {
    name: name.string(DNS_LABEL),
    mac: mac.string(MAC),
    queues: queues.integer({ min: 1, max: TAP_QUEUES_MAX }),
    link: link.oneOf(["up", "down"]),
    attachment: attachment(fields.attachment),
    dataPath: dataPath.oneOf(["auto", "inProcess"]),
    ...(limits.present && { limits: interfaceLimits(limits) }),
    ...(dhcp.present && { dhcp: dhcpConfig(dhcp) }),
  };
}

function attachment(field: Field): InterfaceAttachment {
  const kind = field.loose("kind").oneOf(["masquerade", "podIP", "multus", "tap"]);
  switch (kind) {
    case "masquerade": {
      const { ports } = field.object(["kind", "ports"]);
      return { kind, ...(ports.present && { ports: ports.array(PORTS_MAX).map(guestPort) }) };
    }
    case "podIP":
      field.object(["kind"]);
      return { kind };
    case "multus":
      return { kind, podInterface: field.object(["kind", "podInterface"]).podInterface.string(DEVICE_NAME) };
    case "tap": {
      const { device, guest } = field.object(["kind", "device", "guest"]);
      return { kind, device: device.string(DEVICE_NAME), ...(guest.present && { guest: guestAddresses(guest) }) };
    }
  }
}

function guestPort(field: Field): GuestPort {
  const { protocol, port } = field.object(["protocol", "port"]);
  return { protocol: protocol.oneOf(["TCP", "UDP", "SCTP"]), port: port.integer({ min: 1, max: 65535 }) };
}

function guestAddresses(field: Field): GuestAddresses {
  const { ipv4, ipv6 } = field.object(["ipv4", "ipv6"]);
  return { ...(ipv4.present && { ipv4: guestIpv4(ipv4) }), ...(ipv6.present && { ipv6: guestIpv6(ipv6) }) };
}

function guestIpv4(field: Field): GuestIpv4 {
  const {
    address: own,
    prefixLength,
    gateway,
    routes,
  } = field.object(["address", "prefixLength", "gateway", "routes"]);
  return {
    address: address(own, 4),
    prefixLength: prefixLength.integer({ min: 1, max: 32 }),
    ...(gateway.present && { gateway: address(gateway, 4) }),
    ...(routes.present && { routes: guestRoutes(routes, 4) }),
  };
}

function guestIpv6(field: Field): GuestIpv6 {
  const fields = field.object(["address", "prefixLength", "gateway", "gatewayMac", "routes"]);
  const { gateway, gatewayMac, routes } = fields;
  const isGlobal = gateway.present && !/^fe[89ab]/i.test(address(gateway, 6));
  if (isGlobal && !gatewayMac.present)
    gatewayMac.fail("is missing; a gateway that is not link-local needs its MAC address");
  return {
    address: address(fields.address, 6),
    prefixLength: fields.prefixLength.integer({ min: 1, max: 128 }),
    ...(gateway.present && { gateway: address(gateway, 6) }),
    ...(gatewayMac.present && { gatewayMac: gatewayMac.string(MAC) }),
    ...(routes.present && { routes: guestRoutes(routes, 6) }),
  };
}

function guestRoutes(field: Field, family: 4 | 6): readonly GuestRoute[] {
  return field.array(ROUTES_MAX).map((entry) => {
    const { destination, gateway } = entry.object(["destination", "gateway"]);
    return {
      destination: network(destination, family),
      ...(gateway.present && { gateway: address(gateway, family) }),
    };
  });
}

function network(field: Field, family: 4 | 6): string {
  const wanted = `an IPv${family} network, as ADDRESS/PREFIXLENGTH`;
  const text = field.string({ maxBytes: 49, wanted });
  const [base = "", length = "", ...rest] = text.split("/");
  const isNetwork = isIP(base) === family && !base.includes("%") && /^\d{1,3}$/.test(length) && rest.length === 0;
  if (!isNetwork || Number(length) > (family === 4 ? 32 : 128))
    field.fail(`is ${JSON.stringify(text)}; give ${wanted}`);
  return text;
}

function address(field: Field, family: 4 | 6): string {
  const wanted = `an IPv${family} address`;
  const text = field.string({ maxBytes: 45, wanted });
  const isAddress = family === 4 ? isIPv4(text) : isIPv6(text) && !text.includes("%");
  if (!isAddress) field.fail(`is ${JSON.stringify(text)}; give ${wanted}`);
  return text;
}

function interfaceLimits(field: Field): InterfaceLimits {
  const { packetsPerSecond, bitsPerSecond } = field.object(["packetsPerSecond", "bitsPerSecond"]);
  return {
    ...(packetsPerSecond.present && { packetsPerSecond: packetsPerSecond.integer({ min: 1, max: 1e9 }) }),
    ...(bitsPerSecond.present && { bitsPerSecond: bitsPerSecond.integer({ min: 8000, max: 1e13 }) }),
  };
}

function dhcpConfig(field: Field): DhcpConfig {
  const { hostname, ntpServers } = field.object(["hostname", "ntpServers"]);
  return {
    ...(hostname.present && { hostname: hostname.string(DNS_NAME) }),
    ...(ntpServers.present && {
      ntpServers: ntpServers.array(NTP_SERVERS_MAX).map((server) => {
        const wanted = "an IPv4 or IPv6 address";
        const text = server.string({ maxBytes: 45, wanted });
        if (isIP(text) === 0 || text.includes("%")) server.fail(`is ${JSON.stringify(text)}; give ${wanted}`);
        return text;
      }),
    }),
  };
}
