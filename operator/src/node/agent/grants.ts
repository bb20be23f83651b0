import type { AgentWant } from "../../../../launcher/api/agent.ts";
import type { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { openFile } from "../../../../launcher/src/sys/file-io.ts";
import { AgentFailure } from "./agent-failure.ts";
import { openBlockDevice } from "./block-device.ts";
import type { Offers } from "./offers.ts";
import type { Peer } from "./peer.ts";
import type { PodIdentity } from "./pod-identity.ts";
import { volumeDevicesOf } from "./volume-devices.ts";

export interface GrantPaths {
  readonly kubeletDir: string;
  readonly kvmPath: string;
  readonly userfaultfdPath: string;
}

/** Opens all that was asked for, in order, or nothing. Throws AgentFailure with the item at fault. */
export async function openGrants(
  want: readonly AgentWant[],
  { peer, pod }: { readonly peer: Peer; readonly pod: PodIdentity },
  { paths, offers }: { readonly paths: GrantPaths; readonly offers: Offers },
): Promise<readonly OwnedFd[]> {
  using cleanup = new DisposableStack();
  const fds: OwnedFd[] = [];
  for (const [index, item] of want.entries()) {
    try {
      if (item.kind === "attachment") {
        for (const fd of offers.take(item.podUid, pod.podUid)) fds.push(cleanup.use(fd));
        continue;
      }
      fds.push(cleanup.use(await openGrant(item, { peer, pod }, paths)));
    } catch (error) {
      throw error instanceof AgentFailure ? error.at(index) : error;
    }
  }
  cleanup.move();
  return fds;
}

function openGrant(
  item: Exclude<AgentWant, { kind: "attachment" }>,
  { peer, pod }: { readonly peer: Peer; readonly pod: PodIdentity },
  paths: GrantPaths,
): Promise<OwnedFd> | OwnedFd {
  switch (item.kind) {
    case "kvm":
      return openNodeDevice(paths.kvmPath, "check that this node's processor virtualizes and that kvm is loaded");
    case "userfaultfd":
      return openNodeDevice(paths.userfaultfdPath, "the node needs Linux 6.1 or newer with userfaultfd");
    case "block":
      return openBlockDevice(peer, item, volumeDevicesOf(paths.kubeletDir, pod.podUid));
    case "tap":
      throw new AgentFailure("BadRequest", "this agent makes no TAPs; update it");
  }
}

function openNodeDevice(path: string, check: string): OwnedFd {
  try {
    return openFile(path, { write: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new AgentFailure("DeviceMissing", `${path} cannot be opened on this node (${reason}); ${check}`);
  }
}
