import {
  type AgentWant,
  type GuestPort,
  PORTS_MAX,
  TAP_QUEUES_MAX,
  type TapBinding,
  type TapWant,
} from "../../../../../launcher/api/agent.ts";
import { AgentFailure } from "../agent-failure.ts";
import { type Fields, isObject, onlyFields } from "../request-fields.ts";
import { podInterfaceOf } from "./tap-plan.ts";

/** RFC 1123, as names in the API are. */
const namePattern = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;
/** What the kernel allows is more; what Multus and people call interfaces is this. */
const interfacePattern = /^[a-zA-Z][a-zA-Z0-9._-]{0,14}$/;
/** Lower case, unicast. */
const macPattern = /^[0-9a-f][02468ace](?::[0-9a-f]{2}){5}$/;
const ZERO_MAC = "00:00:00:00:00:00";
const protocols = ["TCP", "UDP", "SCTP"] as const;
const PORT_MAX = 65_535;

/** Reads an item of kind tap, which may hold anything. Throws AgentFailure. */
export function parseTap(item: Fields): TapWant {
  onlyFields(item, ["kind", "name", "queues", "vhost", "binding"]);
  const { name, queues, vhost, binding } = item;
  if (typeof name !== "string" || !namePattern.test(name)) throw bad("name must be a DNS label");
  if (!isWholeNumber(queues, TAP_QUEUES_MAX)) throw bad(`queues must be a whole number from 1 to ${TAP_QUEUES_MAX}`);
  if (typeof vhost !== "boolean") throw bad("vhost must be true or false");
  if (!isObject(binding)) throw bad("binding is not an object");
  return { kind: "tap", name, queues, vhost, binding: parseBinding(binding) };
}

/** A request names each TAP once, and gives no interface of the pod to two. Throws AgentFailure. */
export function refuseConflicts(want: readonly AgentWant[]): void {
  const taken = new Set<string>();
  for (const [index, item] of want.entries()) {
    if (item.kind !== "tap") continue;
    const podInterface = podInterfaceOf(item);
    for (const key of [`name ${item.name}`, `interface ${podInterface}`]) {
      if (taken.has(key)) throw bad(`${key} is asked for twice; each TAP has its own`).at(index);
      taken.add(key);
    }
  }
}

function parseBinding(binding: Fields): TapBinding {
  switch (binding["kind"]) {
    case "masquerade": {
      onlyFields(binding, ["kind", "mac", "ports", "ownPorts"]);
      const { mac, ports } = binding;
      const ownPorts = parseOwnPorts(binding["ownPorts"]);
      if (typeof mac !== "string" || !macPattern.test(mac) || mac === ZERO_MAC)
        throw bad("binding.mac must be a unicast MAC in lower case, e.g. 02:5a:00:12:34:56");
      if (ports === undefined) return { kind: "masquerade", mac, ownPorts };
      return { kind: "masquerade", mac, ports: parseGuestPorts(ports, ownPorts), ownPorts };
    }
    case "podIP":
      onlyFields(binding, ["kind", "ownPorts"]);
      return { kind: "podIP", ownPorts: parseOwnPorts(binding["ownPorts"]) };
    case "multus": {
      onlyFields(binding, ["kind", "podInterface"]);
      const { podInterface } = binding;
      if (typeof podInterface !== "string" || !interfacePattern.test(podInterface))
        throw bad("binding.podInterface must be the name of an interface of the pod, e.g. net1");
      return { kind: "multus", podInterface };
    }
    default:
      throw bad("binding.kind must be masquerade, podIP or multus");
  }
}

function parseOwnPorts(ports: unknown): readonly number[] {
  if (!Array.isArray(ports) || ports.length > PORTS_MAX || !ports.every((port) => isWholeNumber(port, PORT_MAX)))
    throw bad(`binding.ownPorts must be a list of at most ${PORTS_MAX} ports from 1 to ${PORT_MAX}`);
  return [...new Set<number>(ports)];
}

function parseGuestPorts(ports: unknown, ownPorts: readonly number[]): readonly GuestPort[] {
  if (!Array.isArray(ports) || ports.length > PORTS_MAX)
    throw bad(`binding.ports must be a list of at most ${PORTS_MAX} ports`);
  return ports.map((item: unknown) => {
    if (!isObject(item)) throw bad("an item of binding.ports is not an object");
    onlyFields(item, ["protocol", "port"]);
    const { port } = item;
    const protocol = protocols.find((each) => each === item["protocol"]);
    if (protocol === undefined) throw bad(`protocol in binding.ports must be ${protocols.join(", ")}`);
    if (!isWholeNumber(port, PORT_MAX)) throw bad(`port in binding.ports must be a whole number from 1 to ${PORT_MAX}`);
    if (protocol === "TCP" && ownPorts.includes(port))
      throw bad(`binding.ports has ${port}, which is the launcher's own; choose another one for the guest`);
    return { protocol, port };
  });
}

function isWholeNumber(value: unknown, max: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= max;
}

function bad(message: string): AgentFailure {
  return new AgentFailure("BadRequest", message);
}
