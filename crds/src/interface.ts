import { z } from "zod";
import { dnsLabel } from "./names.ts";
import { exactlyOneOf, listMap, type Rule, withRules } from "./rules.ts";

const INTERFACES_MAX = 8;
/** Most ports of one interface: PORTS_MAX of the agent protocol. */
const GUEST_PORTS_MAX = 64;
/** Longest interface name in characters: the launcher's metrics and the agent's devices are named by it. */
const INTERFACE_NAME_MAX_LENGTH = 63;

/** NTP_SERVERS_MAX of the launcher's configuration. */
const NTP_SERVERS_MAX = 4;

/** Names of the launcher's own ports in its container, which the names of the guest's must differ from. */
export const LAUNCHER_PORT_NAMES = ["control", "telemetry", "migration", "migration-data"] as const;

/** The annotation that has Multus make more interfaces in a pod. */
export const MULTUS_NETWORKS_ANNOTATION = "k8s.v1.cni.cncf.io/networks";

const guestPort = z.strictObject({
  name: withRules(
    z
      .string()
      .min(1)
      .max(15)
      .describe("Name by which Services (targetPort) and probes refer to the port; unique in the machine."),
    {
      rule: "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.matches('[a-z]') && !self.contains('--')",
      message: "name must be lower-case letters, digits and single '-' inside, with a letter among them",
    },
    {
      rule: LAUNCHER_PORT_NAMES.map((name) => `self != '${name}'`).join(" && "),
      message: `name must be another than ${LAUNCHER_PORT_NAMES.join(", ")}, which are ports of the launcher itself`,
    },
  ).exactOptional(),
  protocol: z.enum(["TCP", "UDP", "SCTP"]).describe("Protocol of the port.").default("TCP"),
  port: z.int().min(1).max(65535).describe("Port of the guest, and of the pod's IP."),
});

const ports = withRules(
  listMap(
    z
      .array(guestPort)
      .min(1)
      .max(GUEST_PORTS_MAX)
      .describe(
        "Ports of the guest that are reached through the pod's IP; by default all but those that the launcher listens on.",
      ),
    "port",
    "protocol",
  ),
  {
    rule: "self.filter(port, has(port.name)).all(port, self.exists_one(other, has(other.name) && other.name == port.name))",
    message: "names of ports must be unique: rename one",
  },
);

const bindings = {
  masquerade: z
    .strictObject({ ports: ports.exactOptional() })
    .describe(
      "The guest has a private address (10.0.2.2, fd10:0:2::2); traffic to and from the pod's IP is translated. Survives live migration.",
    )
    .exactOptional(),
  podIP: z.strictObject({}).describe("The guest has the pod's own IP and MAC address.").exactOptional(),
  multus: z
    .strictObject({
      networkName: withRules(
        z
          .string()
          .min(1)
          .max(63 + 1 + 253)
          .describe("NetworkAttachmentDefinition as NAME or NAMESPACE/NAME."),
        {
          rule: "self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
          message: "networkName must be NAME or NAMESPACE/NAME of a NetworkAttachmentDefinition",
        },
      ),
    })
    .describe("The guest is bridged to an extra interface of the pod, made by Multus.")
    .exactOptional(),
};

const macAddress = withRules(
  z
    .string()
    .min(17)
    .max(17)
    .describe(
      "MAC address that the guest has, e.g. 02:00:5e:10:00:01. By default one that follows from the VirtualMachine's UID and the interface's name, and stays the same as long as both do. Not with podIP, which has the pod's.",
    ),
  {
    rule: "self.matches('^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$')",
    message: "macAddress must be six pairs of hexadecimal digits with ':' between them, such as 02:00:5e:10:00:01",
  },
  {
    rule: "!self.matches('^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$') || self.matches('^[0-9a-fA-F][02468aceACE]')",
    message: "macAddress must be that of one interface (unicast): make its second digit even, such as 02:...",
  },
  {
    rule: "self != '00:00:00:00:00:00' && self != '02:00:00:00:00:01'",
    message: "macAddress must be another: 00:00:00:00:00:00 is none, and 02:00:00:00:00:01 is the gateway's",
  },
);

const limits = withRules(
  z
    .strictObject({
      packetsPerSecond: z
        .int()
        .min(1)
        .max(1_000_000_000)
        .describe("Packets a second; large ones that the guest hands over as one count as one.")
        .exactOptional(),
      bitsPerSecond: z
        .int()
        .min(8_000)
        .max(10_000_000_000_000)
        .describe("Bits a second, e.g. 100000000 for 100 Mbit/s.")
        .exactOptional(),
    })
    .describe("How much the guest may send, and how much it may receive. What is beyond waits or is dropped."),
  {
    rule: "has(self.packetsPerSecond) || has(self.bitsPerSecond)",
    message: "limits needs packetsPerSecond, bitsPerSecond or both: without a limit, remove it",
  },
);

const ntpServers = z
  .array(
    withRules(z.string().min(2).max(45), {
      rule: "isIP(self)",
      message: "ntpServers are IP addresses, without a port: DHCP has no names of them",
    }),
  )
  .max(NTP_SERVERS_MAX)
  .describe(
    "IP addresses of time servers that the guest is told by DHCP (RFC 2132, 8.3) and DHCPv6 (RFC 5908); each family has its own. By default none: a Linux guest on KVM has the node's clock, too (ptp_kvm).",
  );

const networkInterface = withRules(
  z.strictObject({
    name: dnsLabel("name", INTERFACE_NAME_MAX_LENGTH, "Name of the interface, unique in the machine."),
    ...bindings,
    macAddress: macAddress.exactOptional(),
    state: z
      .enum(["Up", "Down"])
      .describe("Whether the cable is plugged in, as it were; a change reaches the running guest.")
      .default("Up"),
    limits: limits.exactOptional(),
    ntpServers: ntpServers.exactOptional(),
  }),
  exactlyOneOf("an interface", Object.keys(bindings)),
  {
    rule: "!(has(self.podIP) && has(self.macAddress))",
    message: "macAddress makes no sense with podIP, whose guest has the pod's own: remove it",
    fieldPath: ".macAddress",
  },
  {
    rule: "!(has(self.multus) && has(self.ntpServers))",
    message: "ntpServers makes no sense with multus, whose network has its own DHCP: remove it",
    fieldPath: ".ntpServers",
  },
);

/** CEL: true of an interface that has the pod's network. */
export const isOnPodNetwork = (entry: string) => `(has(${entry}.masquerade) || has(${entry}.podIP))`;

export const interfaces = withRules(
  z
    .array(networkInterface)
    .max(INTERFACES_MAX)
    .describe(
      "Network interfaces in the order of the guest's PCI bus. By default one, named default and masqueraded, on the pod network; an empty list is a machine without a network.",
    ),
  {
    rule: `self.filter(entry, ${isOnPodNetwork("entry")}).size() <= 1`,
    message:
      "interfaces must have at most one of masquerade and podIP: the pod has one network of its own, use multus for others",
  },
  {
    rule: "self.filter(entry, has(entry.macAddress)).all(entry, self.exists_one(other, has(other.macAddress) && other.macAddress == entry.macAddress))",
    message: "interfaces must not share a macAddress: change one, or remove it to have one made",
  },
);

/** Rules of the spec that are about interfaces. */
export const interfaceRules: readonly Rule[] = [
  {
    rule: `!(has(self.interfaces) && self.interfaces.exists(entry, has(entry.multus)) && has(self.template) && has(self.template.metadata) && has(self.template.metadata.annotations) && '${MULTUS_NETWORKS_ANNOTATION}' in self.template.metadata.annotations)`,
    message: `the annotation ${MULTUS_NETWORKS_ANNOTATION} is written from spec.interfaces: name those networks there, as multus interfaces`,
    fieldPath: ".template.metadata.annotations",
  },
];

export type NetworkInterface = z.output<typeof networkInterface>;
export type GuestPortSpec = z.output<typeof guestPort>;
