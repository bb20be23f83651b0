import type { TapBinding, TapWant } from "../../api/agent.ts";
import type { InterfaceConfig, MachineConfig } from "../../api/machine-config.ts";
import { NetworkError, type NetworkLink } from "../net/network-link.ts";
import type { Granted } from "./agent-client.ts";

/** Who listens in this process, as far as others reach it. */
export type Listeners = Pick<MachineConfig, "control" | "migration">;

/** What to ask the agent for an interface; null for one that is attached by hand. */
export function tapWant(config: InterfaceConfig, machine: Listeners): TapWant | null {
  const { name, queues, dataPath, limits } = config;
  const binding = bindingOf(config, ownPorts(machine));
  // Limits are kept in this process.
  return binding && { kind: "tap", name, queues, vhost: dataPath === "auto" && limits === undefined, binding };
}

function bindingOf({ mac, attachment }: InterfaceConfig, ownPorts: readonly number[]): TapBinding | null {
  switch (attachment.kind) {
    case "masquerade":
      return { kind: "masquerade", mac, ownPorts, ...(attachment.ports && { ports: attachment.ports }) };
    case "podIP":
      return { kind: "podIP", ownPorts };
    case "multus":
      return { kind: "multus", podInterface: attachment.podInterface };
    case "tap":
      return null;
  }
}

/** TCP ports that this process listens on, at an address that others reach. */
function ownPorts({ control: { https, telemetry }, migration }: Listeners): readonly number[] {
  const ofMigration = migration ? [migration.port, migration.port + 1] : [];
  return [...(https ? [https.port] : []), ...(telemetry ? [telemetry.port] : []), ...ofMigration];
}

/** The link that the agent granted for an interface. Throws NetworkError where the answer has none. */
export function grantedLink({ name, queues, attachment }: InterfaceConfig, { fds, tap }: Granted): NetworkLink {
  if (!tap) throw new NetworkError(name, "the node agent granted no TAP; update it");
  const taps = fds.slice(0, queues);
  const vhosts = tap.vhost ? fds.slice(queues, 2 * queues) : [];
  const answeringTap = tap.vhost ? fds[2 * queues] : undefined;
  return {
    taps,
    vhosts,
    ...(answeringTap && { answeringTap }),
    device: tap.device,
    mtuBytes: tap.mtuBytes,
    ...(tap.mac !== undefined && { mac: tap.mac }),
    ...(tap.guest && { guest: tap.guest }),
    isFiltered: attachment.kind !== "multus",
    [Symbol.dispose]: () => {
      for (const fd of fds) fd[Symbol.dispose]();
    },
  };
}
