import { readFileSync } from "node:fs";
import type { InterfaceConfig } from "../../api/machine-config.ts";
import { SysError } from "../sys/errors.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { NetworkError, type NetworkLink } from "./network-link.ts";
import { openTap } from "./tap.ts";

const VHOST_NET_PATH = "/dev/vhost-net";
const MTU_DEFAULT = 1500;

/** Opens the TAP of an interface that is attached by hand. Throws NetworkError with the way out. */
export function openLink({ name, queues, attachment, dataPath, limits }: InterfaceConfig): NetworkLink {
  if (attachment.kind !== "tap")
    throw new NetworkError(name, `a ${attachment.kind} attachment is made by the node agent: set kvm.agentSocketPath`);
  const { device, guest } = attachment;
  try {
    const taps = openTap(device, queues);
    // What the services answer comes to this process with the frames, or not at all.
    const vhosts = dataPath === "auto" && !limits && !guest ? openVhosts(queues) : [];
    return {
      taps,
      vhosts,
      device,
      mtuBytes: mtuOf(device),
      isFiltered: guest !== undefined,
      ...(guest && { guest }),
      [Symbol.dispose]: () => {
        for (const fd of [...taps, ...vhosts]) fd[Symbol.dispose]();
      },
    };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    throw new NetworkError(name, `TAP ${device} cannot be opened: ${problem}; ${wayOut(error, device, queues)}`, {
      cause: error,
    });
  }
}

/** None where it is not there, or not for this user. */
function openVhosts(count: number): readonly OwnedFd[] {
  using cleanup = new DisposableStack();
  try {
    const fds = Array.from({ length: count }, () => cleanup.use(openFile(VHOST_NET_PATH, { write: true })));
    cleanup.move();
    return fds;
  } catch {
    return [];
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
