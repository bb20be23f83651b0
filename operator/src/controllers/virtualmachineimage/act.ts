import { formatBytes } from "../../../../crds/src/quantity.ts";
import type { Client } from "../../runtime/client.ts";
import { ApiError } from "../../runtime/errors.ts";
import type { EventDraft, Regarding } from "../../runtime/event-recorder.ts";
import type { Logger } from "../../runtime/logger.ts";
import {
  type KubernetesObject,
  type PersistentVolume,
  type PersistentVolumeClaim,
  type Pod,
  type Resource,
  resources,
} from "../../runtime/wire.ts";
import { importAnnotations, REFUSED } from "../claim-import.ts";
import { notPopulated } from "./decide-claim.ts";
import { annotations, FIELD_MANAGER, virtualMachineImages } from "./names.ts";
import type { ClaimFacts, StoredImage } from "./observation.ts";
import { trimClaim, type World } from "./observe.ts";
import type { Action } from "./plan.ts";
import { importerPod, primeClaim } from "./pod.ts";
import type { ProgressMonitor } from "./progress-monitor.ts";
import type { ImportSettings } from "./settings.ts";

/** What actions are carried out with. */
export interface Hands {
  readonly client: Client;
  readonly world: World;
  readonly monitor: ProgressMonitor;
  readonly events: { record(regarding: Regarding, draft: EventDraft): void };
  readonly logger: Logger;
  readonly settings: ImportSettings;
}

/** Carries one action out. Writes go into the stores as well, so that the next pass knows of them. */
export async function act(action: Action, image: StoredImage | undefined, key: string, hands: Hands): Promise<void> {
  const { client, world } = hands;
  switch (action.kind) {
    case "create-prime": {
      const { claim, backing } = action;
      const made = primeClaim(claim, backing, formatBytes(claim.requestBytes));
      const created = await create<PersistentVolumeClaim>(resources.persistentVolumeClaims, made, client);
      if (created !== undefined) world.claims.put(trimClaim(created));
      return;
    }
    case "create-pod":
      return await createPod(action, image, hands);
    case "delete-pod":
      return await remove(resources.pods, action, (answer) => world.pods.put(answer as Pod), hands);
    case "delete-claim": {
      const put = (answer: KubernetesObject) => world.claims.put(trimClaim(answer as PersistentVolumeClaim));
      return await remove(resources.persistentVolumeClaims, action, put, hands);
    }
    case "mark-claim":
      return await annotate(action.claim, { [importAnnotations.state]: action.state }, hands);
    case "hand-over":
      return await handOver(action, hands);
    case "check-volume":
      return await checkVolume(action, hands);
    case "ask-importer":
      return hands.monitor.follow(action.podUID, action.ip, key);
    case "tell":
      return hands.events.record(regarding(action.claim), action.event);
    case "write-status": {
      if (image === undefined) return;
      const { name = "", namespace = "", uid = "" } = image.metadata;
      const applied = { metadata: { name, namespace, uid }, status: action.status } as KubernetesObject;
      const options = { fieldManager: FIELD_MANAGER, subresource: "status" } as const;
      world.images.put((await client.apply(virtualMachineImages, applied, options)) as StoredImage);
      return;
    }
  }
}

/** Undefined where there is one of the name: it is told by the watch, and looked at then. */
async function create<T extends KubernetesObject>(resource: Resource, made: T, client: Client): Promise<T | undefined> {
  try {
    return await client.create<T>(resource, made, FIELD_MANAGER);
  } catch (error) {
    if (error instanceof ApiError && error.isAlreadyExists) return undefined;
    throw error;
  }
}

async function createPod(
  { claim, prime, source }: Extract<Action, { kind: "create-pod" }>,
  image: StoredImage | undefined,
  { client, world, settings, events, logger }: Hands,
): Promise<void> {
  if (image === undefined) return;
  const pod = await create<Pod>(resources.pods, importerPod({ image, claim, prime, source, settings }), client);
  if (pod === undefined) return;
  world.pods.put(pod);
  const { name, namespace } = claim;
  logger.info({ namespace, claim: name, image: image.metadata.name, pod: pod.metadata?.name }, "Began an import");
  const note = `Imports VirtualMachineImage ${image.metadata.name} in pod ${pod.metadata?.name}`;
  events.record(regarding(claim), { type: "Normal", reason: "Importing", action: "Import", note });
}

async function remove(
  resource: Resource,
  target: { readonly namespace: string; readonly name: string; readonly uid: string },
  put: (answer: KubernetesObject) => void,
  { client, logger }: Hands,
): Promise<void> {
  try {
    const answer = await client.delete<KubernetesObject>(resource, target, { uid: target.uid });
    if ("metadata" in answer && answer.metadata?.uid === target.uid) put(answer);
    logger.info({ namespace: target.namespace, name: target.name }, `Deleted the ${resource.kind} of an import`);
  } catch (error) {
    if (!(error instanceof ApiError && (error.isNotFound || error.isConflict))) throw error;
  }
}

async function annotate(
  { name, namespace, uid }: ClaimFacts,
  marks: Readonly<Record<string, string>>,
  { client, world }: Hands,
): Promise<void> {
  const patch = { metadata: { uid, annotations: marks } };
  const resource = resources.persistentVolumeClaims;
  const patched = await client.mergePatch<PersistentVolumeClaim>(resource, { namespace, name }, patch, FIELD_MANAGER);
  world.claims.put(trimClaim(patched));
}

/**
 * First the claim is told which volume is good for it, then the volume which claim it is for: from then on Kubernetes binds
 * both. Each step can be done again.
 */
async function handOver(
  { claim, prime, volumeName }: Extract<Action, { kind: "hand-over" }>,
  hands: Hands,
): Promise<void> {
  const { client, logger } = hands;
  const { name, namespace, uid } = claim;
  if (claim.importedVolume !== volumeName) await annotate(claim, { [importAnnotations.volume]: volumeName }, hands);
  const volume = await client.get<PersistentVolume>(resources.persistentVolumes, "", volumeName);
  const holder = volume.spec?.claimRef;
  if (holder?.uid === uid) return;
  if (holder?.uid !== prime.uid) {
    logger.warn({ namespace, claim: name, volume: volumeName }, "The filled volume belongs to another claim by now");
    return;
  }
  const current = await client.get<PersistentVolumeClaim>(resources.persistentVolumeClaims, namespace, name);
  // A claim that is gone, or one of its name that came after it, must not get the volume.
  if (current.metadata?.uid !== uid || current.metadata.deletionTimestamp !== undefined) return;
  const patch = {
    metadata: {
      resourceVersion: volume.metadata?.resourceVersion ?? "",
      annotations: { [annotations.populatedFrom]: `${namespace}/${claim.import?.imageName}` },
    },
    spec: {
      claimRef: {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        namespace,
        name,
        uid,
        resourceVersion: current.metadata.resourceVersion,
      },
    },
  };
  await client.mergePatch(
    resources.persistentVolumes,
    { namespace: "", name: volumeName },
    patch as KubernetesObject,
    FIELD_MANAGER,
  );
  logger.info({ namespace, claim: name, volume: volumeName }, "Handed a filled volume over");
}

/** A claim that is bound and does not say to which filled volume: its annotations were lost, or the volume is another. */
async function checkVolume(
  { claim, volumeName }: Extract<Action, { kind: "check-volume" }>,
  hands: Hands,
): Promise<void> {
  const volume = await hands.client.get<PersistentVolume>(resources.persistentVolumes, "", volumeName);
  const isFilled = volume.metadata?.annotations?.[annotations.populatedFrom] !== undefined;
  const isOurs = volume.spec?.claimRef?.uid === claim.uid;
  if (isFilled && isOurs) return await annotate(claim, { [importAnnotations.volume]: volumeName }, hands);
  const message = notPopulated(claim, volumeName);
  await annotate(claim, { [importAnnotations.state]: `${REFUSED}${message}` }, hands);
  hands.events.record(regarding(claim), {
    type: "Warning",
    reason: "ClaimNotPopulated",
    action: "Import",
    note: message,
  });
}

function regarding({ name, namespace, uid }: ClaimFacts): Regarding {
  return { apiVersion: "v1", kind: "PersistentVolumeClaim", name, namespace, uid };
}
