import type { Pod } from "../../runtime/wire.ts";
import type { PodWarning } from "./observation.ts";
import type { Waiting } from "./waiting.ts";

type Volume = NonNullable<NonNullable<Pod["spec"]>["volumes"]>[number];

/** Reasons that only events tell of. */
export const REASONS_FROM_EVENTS: ReadonlySet<string> = new Set(["VolumeNotReady", "SecretNotFound"]);

const VOLUME_WARNINGS: ReadonlySet<string> = new Set<PodWarning["reason"]>([
  "FailedMount",
  "FailedAttachVolume",
  "FailedMapVolume",
]);

/** What keeps a pod's volumes or its sandbox from being made; undefined when nothing is known to. */
export function troubleOf(pod: Pod, warnings: readonly PodWarning[]): Waiting | undefined {
  // All volumes are mounted and the sandbox is there, so what was warned of before is over (KEP-3085).
  if (pod.status?.conditions?.some(({ type, status }) => type === "PodReadyToStartContainers" && status === "True")) {
    return undefined;
  }
  const [last] = warnings
    .filter((warning) => warning.reason !== "FailedToRetrieveImagePullSecret")
    .sort((a, b) => b.atMs - a.atMs);
  if (last === undefined) {
    return undefined;
  }
  const node = pod.spec?.nodeName;
  if (VOLUME_WARNINGS.has(last.reason)) {
    return volumeTrouble(pod, last.note);
  }
  const message = `Node ${node}: ${last.note}; see the node's container runtime and network plugin`;
  return { reason: "ContainerNotStarted", message, stalled: false };
}

/** Secrets for pulling images that the kubelet did not find. */
export function missingPullSecrets(warnings: readonly PodWarning[]): string[] {
  const note = warnings.find(({ reason }) => reason === "FailedToRetrieveImagePullSecret")?.note;
  // "Unable to retrieve some image pull secrets (a, b); ..."
  const names = /\(([^)]*)\)/.exec(note ?? "")?.[1] ?? "";
  return names.split(/,\s*/).filter((name) => name !== "");
}

/** From `MountVolume.SetUp failed for volume "disk-conf" : secret "x" not found` and its kind. */
function volumeTrouble(pod: Pod, note: string): Waiting {
  const said = /for volume "(?<name>[^"]+)"\s*:\s*(?<cause>.*)$/s.exec(note)?.groups;
  const volume = pod.spec?.volumes?.find(({ name }) => name === said?.["name"]);
  const cause = said?.["cause"] ?? note;
  const of = volume === undefined ? "" : ` of ${fieldOf(volume)}`;
  const missing = /^(?<kind>secret|configmap) "(?<name>[^"]+)" not found/i.exec(cause)?.groups;
  const name = missing?.["name"] ?? "";
  if (volume?.name === "machine") {
    const help = `delete pod ${pod.metadata?.name} to have both made anew`;
    return volumeNotReady(`The machine's own Secret cannot be mounted: ${cause}; ${help}`);
  }
  if (missing?.["kind"]?.toLowerCase() === "secret") {
    const message = `Secret ${name}${of} does not exist; create it, or correct the name`;
    return { reason: "SecretNotFound", message, stalled: false };
  }
  if (missing !== undefined) {
    return volumeNotReady(`ConfigMap ${name}${of} does not exist; create it, or correct the name`);
  }
  const source = volume === undefined ? claimsOf(pod) : sourceOf(volume);
  const what = source === "" ? "" : ` (${source})`;
  const subject = volume === undefined ? "A volume" : `The volume${of}`;
  return volumeNotReady(
    `${subject}${what} cannot be mounted on node ${pod.spec?.nodeName}: ${cause}; it is tried again until it can`,
  );
}

function volumeNotReady(message: string): Waiting {
  return { reason: "VolumeNotReady", message, stalled: false };
}

/** The field of a VirtualMachine that a pod's volume comes from. */
function fieldOf({ name }: Volume): string {
  if (name === "boot-image") {
    return "spec.boot.kernel.image";
  }
  const disk = /^disk-(.*)$/.exec(name)?.[1];
  return disk === undefined ? `volume ${name}` : `spec.disks[${disk}]`;
}

function sourceOf({ secret, configMap, persistentVolumeClaim: claim, image }: Volume): string {
  return [
    secret === undefined ? "" : `Secret ${secret.secretName}`,
    configMap === undefined ? "" : `ConfigMap ${configMap.name}`,
    claim === undefined ? "" : `PersistentVolumeClaim ${claim.claimName}`,
    image === undefined ? "" : `image ${image.reference}`,
  ].join("");
}

/** Volumes of claims go by the names of the volumes behind them, which nobody knows by heart. */
function claimsOf(pod: Pod): string {
  return (pod.spec?.volumes ?? [])
    .filter((volume) => volume.persistentVolumeClaim !== undefined)
    .map(sourceOf)
    .join(", ");
}
