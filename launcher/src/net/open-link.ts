import { readFileSync } from "node:fs";
import type { InterfaceConfig } from "../../api/machine-config.ts";
import { SysError } from "../sys/errors.ts";
import { NetworkError, type NetworkLink } from "./network-link.ts";
import { openTap } from "./tap.ts";

const MTU_DEFAULT = 1500;

/** Opens the TAP of an interface that is attached by hand. Throws NetworkError with the way out. */
export function openLink({ name, queues, attachment }: InterfaceConfig): NetworkLink {
  if (attachment.kind !== "tap")
    throw new NetworkError(name, `a ${attachment.kind} attachment is made by the node agent: set kvm.agentSocketPath`);
  const { device, guest } = attachment;
  try {
    const taps = openTap(device, queues);
    return {
      taps,
      vhosts: [],
      device,
      mtuBytes: mtuOf(device),
      isFiltered: guest !== undefined,
      ...(guest && { guest }),
      [Symbol.dispose]: () => {
        for (const tap of taps) tap[Symbol.dispose]();
      },
    };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    throw new NetworkError(name, `TAP ${device} cannot be opened: ${problem}; ${wayOut(error, device, queues)}`, {
      cause: error,
    });
  }
}

function wayOut(error: unknown, device: string, queues: number): string {
  const multiQueue = queues > 1 ? " multi_queue" : "";
  if (error instanceof SysError && (error.code === "EPERM" || error.code === "EINVAL"))
    return `make it for this user: ip tuntap add dev ${device} mode tap vnet_hdr${multiQueue} user ${process.getuid?.() ?? 0}`;
  if (error instanceof SysError && error.code === "EBUSY") return "another process uses it";
  return "check that /dev/net/tun is there for this user";
}

/** Without sysfs it is taken for Ethernet's. */
function mtuOf(device: string): number {
  try {
    return Number(readFileSync(`/sys/class/net/${device}/mtu`, "utf8"));
  } catch {
    return MTU_DEFAULT;
  }
}
