import type { AgentWant, TapGrant } from "../../../../launcher/api/agent.ts";
import type { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { openFile } from "../../../../launcher/src/sys/file-io.ts";
import { AgentFailure } from "./agent-failure.ts";
import { openBlockDevice } from "./block-device.ts";
import { grantTap } from "./network/tap-grant.ts";
import type { Offers } from "./offers.ts";
import type { Peer } from "./peer.ts";
import type { PodIdentity } from "./pod-identity.ts";
import { volumeDevicesOf } from "./volume-devices.ts";

export interface GrantPaths {
  readonly kubeletDir: string;
  readonly kvmPath: string;
  readonly userfaultfdPath: string;
  readonly vhostNetPath: string;
}

export interface Grants {
  /** All items' descriptors in order; the caller's. */
  readonly fds: readonly OwnedFd[];
  /** Of the tap items. */
  readonly taps: readonly TapGrant[];
}

interface Asker {
  readonly peer: Peer;
  readonly pod: PodIdentity;
}

/** Opens all that was asked for, in order, or nothing. Throws AgentFailure with the item at fault. */
export async function openGrants(
  want: readonly AgentWant[],
  asker: Asker,
  sources: { readonly paths: GrantPaths; readonly offers: Offers },
): Promise<Grants> {
  using cleanup = new DisposableStack();
  const fds: OwnedFd[] = [];
  const taps: TapGrant[] = [];
  for (const [index, item] of want.entries()) {
    try {
      const opened = await openGrant(item, asker, sources);
      fds.push(...opened.fds.map((fd) => cleanup.use(fd)));
      taps.push(...opened.taps);
    } catch (error) {
      throw error instanceof AgentFailure ? error.at(index) : error;
    }
  }
  cleanup.move();
  return { fds, taps };
}

async function openGrant(
  item: AgentWant,
  { peer, pod }: Asker,
  { paths, offers }: { readonly paths: GrantPaths; readonly offers: Offers },
): Promise<Grants> {
  switch (item.kind) {
    case "kvm":
      return one(openNodeDevice(paths.kvmPath, "check that this node's processor virtualizes and that kvm is loaded"));
    case "userfaultfd":
      return one(openNodeDevice(paths.userfaultfdPath, "the node needs Linux 6.1 or newer with userfaultfd"));
    case "block":
      return one(await openBlockDevice(peer, item, volumeDevicesOf(paths.kubeletDir, pod.podUid)));
    case "attachment":
      return { fds: offers.take(item.podUid, pod.podUid), taps: [] };
    case "tap": {
      const { fds, grant } = await grantTap(peer, item, paths.vhostNetPath);
      return { fds, taps: [grant] };
    }
  }
}

function one(fd: OwnedFd): Grants {
  return { fds: [fd], taps: [] };
}

function openNodeDevice(path: string, check: string): OwnedFd {
  try {
    return openFile(path, { write: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new AgentFailure("DeviceMissing", `${path} cannot be opened on this node (${reason}); ${check}`);
  }
}
