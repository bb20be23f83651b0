import type { TapGrant, TapWant } from "../../../../../launcher/api/agent.ts";
import type { OwnedFd } from "../../../../../launcher/src/sys/fd.ts";
import { openFile } from "../../../../../launcher/src/sys/file-io.ts";
import { AgentFailure } from "../agent-failure.ts";
import type { Peer } from "../peer.ts";
import { NetworkNamespace } from "./network-namespace.ts";
import { wireTap } from "./tap-wiring.ts";

export interface GrantedTap {
  /** In the order of the protocol; the caller's. */
  readonly fds: readonly OwnedFd[];
  readonly grant: TapGrant;
}

/** Answers an item of kind tap: the TAP in the peer's network namespace, and vhost-net where asked and there. */
export async function grantTap(peer: Peer, want: TapWant, vhostNetPath: string): Promise<GrantedTap> {
  using namespace = NetworkNamespace.of(peer);
  using cleanup = new DisposableStack();
  const vhost = want.vhost ? openVhost(vhostNetPath, want.queues).map((fd) => cleanup.use(fd)) : [];
  const hasVhost = vhost.length > 0;
  const { queues, answering, grant } = await wireTap(namespace, want, { answering: hasVhost });
  cleanup.move();
  return { fds: [...queues, ...vhost, ...(answering ? [answering] : [])], grant: { ...grant, vhost: hasVhost } };
}

/** Whether launchers on this node are given vhost-net; opening it is what loads its module. */
export function hasVhostNet(path: string): boolean {
  try {
    using fd = openFile(path, { write: true });
    return fd.fd >= 0;
  } catch {
    return false;
  }
}

/** None where the node has no vhost-net. */
function openVhost(path: string, count: number): readonly OwnedFd[] {
  using cleanup = new DisposableStack();
  try {
    const fds = Array.from({ length: count }, () => cleanup.use(openFile(path, { write: true })));
    cleanup.move();
    return fds;
  } catch (error) {
    const code: unknown = Object(error).code;
    // Not there, or a node of a module that cannot be loaded.
    if (code === "ENOENT" || code === "ENODEV" || code === "ENXIO") return [];
    const reason = error instanceof Error ? error.message : String(error);
    throw new AgentFailure("DeviceMissing", `${path} cannot be opened on this node (${reason})`);
  }
}
