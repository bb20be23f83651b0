import type { Disk } from "../../../../crds/src/disk.ts";
import { formatBytes, parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import type { LauncherStatus } from "../../../../launcher/api/control.ts";
import type { Pod } from "../../runtime/wire.ts";
import { volumeNameOf } from "./claims.ts";
import type { Action } from "./plan.ts";
import type { Settings } from "./settings.ts";

/** Name of the pod's volume that has the overlays. */
export const OVERLAY_VOLUME = "overlay";

const MIB = 2 ** 20;
/** What a file system takes for a file beside its data, as a share, and at least. */
const METADATA_SHARE = 1 / 64;
/** The kubelet's limit cannot change while the pod lives: so far can the launcher's be raised meanwhile. */
const HEADROOM = 2;

/** What a file of so many bytes takes of its volume at most. */
export function bytesOnVolume(bytes: number): number {
  return bytes + Math.max(bytes * METADATA_SHARE, MIB);
}

/** How much the guest may write beside the image of a disk that is started now. */
export function overlayLimitBytes(disk: Disk, settings: Settings): number {
  const own = disk.image?.overlaySizeLimit;
  return own === undefined ? settings.overlaySizeLimitBytes : parseQuantity(own);
}

/**
 * Of the directory with all overlays of a pod that is made now. The launcher keeps its own limits, by pausing the guest;
 * the kubelet's would end the pod, and is for a launcher that its guest has taken over.
 */
export function overlayDirectoryLimit(disks: readonly Disk[], settings: Settings): string {
  const bytes = disks.reduce((sum, disk) => sum + bytesOnVolume(HEADROOM * overlayLimitBytes(disk, settings)), 0);
  return formatBytes(Math.ceil(bytes / MIB) * MIB);
}

/** Limits that a running machine is to get; none where its pod has no room for all of them. */
export function overlayChanges(vm: VirtualMachine, pod: Pod, status: LauncherStatus, settings: Settings): Action[] {
  if (status.state !== "Running" && status.state !== "Paused") return [];
  if (disksBeyondPod(vm, pod, settings).length > 0) return [];
  return disksOf(pod, vm).flatMap((disk): Action[] => {
    const overlay = status.disks?.find(({ name }) => name === disk.name)?.overlay;
    if (overlay?.limitBytes === undefined) return [];
    const wanted = overlayLimitBytes(disk, settings);
    // What an administrator lowers for all must not stop machines that run: it counts from their next start.
    const bytes = disk.image?.overlaySizeLimit === undefined ? Math.max(wanted, overlay.limitBytes) : wanted;
    if (bytes === overlay.limitBytes) return [];
    return [
      {
        kind: "limit-overlay",
        podUID: pod.metadata?.uid ?? "",
        ip: pod.status?.podIP ?? "",
        disk: disk.name,
        bytes,
      },
    ];
  });
}

/** Disks whose own limits are more, together, than the pod has room for: they need a new pod. */
export function disksBeyondPod(vm: VirtualMachine, pod: Pod, settings: Settings): string[] {
  const disks = disksOf(pod, vm);
  const needed = disks.reduce((sum, disk) => sum + bytesOnVolume(overlayLimitBytes(disk, settings)), 0);
  if (needed <= directoryBytes(pod)) return [];
  return disks.flatMap(({ name, image }) => (image?.overlaySizeLimit === undefined ? [] : name));
}

/** To how much the limit of a disk can be raised in a pod that runs, in whole MiB. */
export function largestLimitBytes(vm: VirtualMachine, pod: Pod, diskName: string, settings: Settings): number {
  const others = disksOf(pod, vm).filter(({ name }) => name !== diskName);
  const taken = others.reduce((sum, disk) => sum + bytesOnVolume(overlayLimitBytes(disk, settings)), 0);
  const left = Math.max(0, directoryBytes(pod) - taken);
  return Math.floor(Math.min(left - MIB, left / (1 + METADATA_SHARE)) / MIB) * MIB;
}

function directoryBytes(pod: Pod): number {
  const volume = pod.spec?.volumes?.find(({ name }) => name === OVERLAY_VOLUME);
  const limit = volume?.emptyDir?.sizeLimit;
  return limit === undefined ? Number.POSITIVE_INFINITY : parseQuantity(limit);
}

/** The disks on images that a pod was made with. */
function disksOf(pod: Pod, vm: VirtualMachine): readonly Disk[] {
  const volumes = pod.spec?.volumes?.filter(({ image }) => image !== undefined).map(({ name }) => name);
  return vm.spec.disks.filter(({ name, image }) => image !== undefined && volumes?.includes(volumeNameOf(name)));
}
