import { createHash } from "node:crypto";
import { LAUNCHER_PORT_NAMES, type NetworkInterface } from "../../../../crds/src/interface.ts";
import type { VirtualMachine, VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { InterfaceAttachment, InterfaceConfig, LinkState } from "../../../../launcher/api/machine-config.ts";
import type { Pod } from "../../runtime/wire.ts";
import { identityOf } from "./names.ts";
import type { Settings } from "./settings.ts";
import { SpecError } from "./spec-error.ts";

type Container = NonNullable<Pod["spec"]>["containers"][number];
export type ContainerPort = NonNullable<Container["ports"]>[number];

const QUEUES_MAX = 8;

/**
 * The interfaces of a machine, the default filled in. This is done here and not by the API server: a default that is
 * stored would stay beside an entry that server-side apply adds later, and the same manifests would give different
 * machines by the order in which they came.
 */
export function interfacesOf(spec: VirtualMachineSpec): readonly NetworkInterface[] {
  return spec.interfaces ?? [{ name: "default", masquerade: {}, state: "Up" }];
}

/** MAC address of an interface: the given one, or one of our own making, which lasts as long as UID and name do. */
export function macOf(uid: string, { name, macAddress }: NetworkInterface): string {
  if (macAddress !== undefined) return macAddress.toLowerCase();
  const bytes = createHash("sha256").update(`${uid}/${name}`).digest().subarray(0, 6);
  // Locally administered, of one station: IEEE 802, 8.4.
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** What Multus is to call a network's interface in the pod: of at most 15 characters (IFNAMSIZ), whatever its name. */
export function podInterfaceOf({ name }: Pick<NetworkInterface, "name">): string {
  return `tv${createHash("sha256").update(name).digest("hex").slice(0, 10)}`;
}

/** What the launcher is told of the machine's interfaces. Throws SpecError. */
export function interfaceConfigs(vm: VirtualMachine, settings: Settings): InterfaceConfig[] {
  const { spec } = vm;
  const { name, uid } = identityOf(vm);
  checkPorts(spec, settings);
  checkMacs(spec, uid);
  return interfacesOf(spec).map((entry) => ({
    name: entry.name,
    mac: macOf(uid, entry),
    queues: Math.min(spec.cpu.cores, QUEUES_MAX),
    link: linkStateOf(entry),
    attachment: attachmentOf(entry),
    dataPath: "auto",
    ...(entry.limits === undefined ? {} : { limits: entry.limits }),
    dhcp: {
      hostname: spec.template?.spec?.hostname ?? name,
      ...(entry.ntpServers === undefined ? {} : { ntpServers: entry.ntpServers }),
    },
  }));
}

/** The spec's word for a link in the launcher's. */
export function linkStateOf({ state }: NetworkInterface): LinkState {
  return state === "Down" ? "down" : "up";
}

function attachmentOf(entry: NetworkInterface): InterfaceAttachment {
  if (entry.podIP !== undefined) return { kind: "podIP" };
  if (entry.multus !== undefined) return { kind: "multus", podInterface: podInterfaceOf(entry) };
  const ports = entry.masquerade?.ports?.map(({ protocol, port }) => ({ protocol, port }));
  return { kind: "masquerade", ...(ports === undefined ? {} : { ports }) };
}

/** Which ports the launcher has is the chart's choice, so the API server cannot know. */
function checkPorts(spec: VirtualMachineSpec, settings: Settings): void {
  const own = new Set(Object.values(launcherPortNumbers(settings)));
  const refuse = (field: string, port: number): never => {
    throw new SpecError(field, `is port ${port}, which the launcher itself listens on; have the guest use another`);
  };
  for (const { name, masquerade } of interfacesOf(spec)) {
    for (const { protocol, port } of masquerade?.ports ?? []) {
      if (protocol === "TCP" && own.has(port)) refuse(`spec.interfaces[${name}].masquerade.ports`, port);
    }
  }
  for (const probe of ["readinessProbe", "livenessProbe"] as const) {
    const port = spec[probe]?.httpGet?.port ?? spec[probe]?.tcpSocket?.port;
    if (typeof port === "number" && own.has(port)) refuse(`spec.${probe}`, port);
  }
}

/** The API server sees to it that none is given twice; one may be another's by chance, or in other letters. */
function checkMacs(spec: VirtualMachineSpec, uid: string): void {
  const seen = new Map<string, string>();
  for (const entry of interfacesOf(spec)) {
    const mac = macOf(uid, entry);
    const other = seen.get(mac);
    if (other !== undefined) {
      throw new SpecError(`spec.interfaces[${entry.name}]`, `has MAC address ${mac}, as ${other} has; give it another`);
    }
    seen.set(mac, entry.name);
  }
}

/** Ports of the guest that the spec lists, by which Services and probes may name them. */
export function guestPorts(spec: VirtualMachineSpec): ContainerPort[] {
  return interfacesOf(spec).flatMap(({ masquerade }) =>
    (masquerade?.ports ?? []).map(({ name, protocol, port }) => ({
      ...(name === undefined ? {} : { name }),
      containerPort: port,
      protocol,
    })),
  );
}

function launcherPortNumbers({ controlPort, telemetryPort, migrationPort }: Settings) {
  const migration = { migration: migrationPort, "migration-data": migrationPort + 1 };
  return { control: controlPort, telemetry: telemetryPort, ...migration };
}

/** The launcher's own ports, by their names in the container. */
export function launcherPorts(settings: Settings): ContainerPort[] {
  const numbers = launcherPortNumbers(settings);
  return LAUNCHER_PORT_NAMES.map((name) => ({ name, containerPort: numbers[name], protocol: "TCP" }));
}

/** A network that a pod asks Multus for. */
export interface MultusNetwork {
  readonly name: string;
  readonly namespace: string;
  /** What it is to be called in the pod. */
  readonly interface: string;
  readonly mac: string;
}

/**
 * What Multus is to be asked for, for interfaces that a pod needs beside its own. Behind a macvlan the guest has the MAC of
 * the pod's interface, so that one is to have the guest's.
 */
export function multusNetworks(vm: VirtualMachine, interfaces = interfacesOf(vm.spec)): MultusNetwork[] {
  const { namespace, uid } = identityOf(vm);
  return interfaces.flatMap((entry) => {
    if (entry.multus === undefined) return [];
    const [name = "", inNamespace = namespace] = entry.multus.networkName.split("/").reverse();
    return [{ name, namespace: inNamespace, interface: podInterfaceOf(entry), mac: macOf(uid, entry) }];
  });
}
