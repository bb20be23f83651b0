import { type BigIntStats, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** Numbers of the block devices that the kubelet gave a pod: it keeps a link to each as volumeDevices/PLUGIN/VOLUME. */
export function volumeDevicesOf(kubeletDir: string, podUid: string): ReadonlySet<bigint> {
  const numbers = new Set<bigint>();
  const directory = join(kubeletDir, "pods", podUid, "volumeDevices");
  for (const plugin of entriesOf(directory)) {
    for (const volume of entriesOf(join(directory, plugin))) {
      const stat = statOf(join(directory, plugin, volume));
      if (stat?.isBlockDevice()) numbers.add(stat.rdev);
    }
  }
  return numbers;
}

/** Empty for a directory that is not there: a pod without such volumes, or one that is being removed. */
function entriesOf(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function statOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    // A link to a device that has gone.
    return undefined;
  }
}
