import { MULTUS_NETWORKS_ANNOTATION } from "../../../../crds/src/interface.ts";
import { GROUP_VERSION } from "../../../../crds/src/names.ts";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { Authority, MachineCertificate } from "../../certificates/authority.ts";
import type { Client } from "../../runtime/client.ts";
import { formatTime } from "../../runtime/clock.ts";
import { ApiError } from "../../runtime/errors.ts";
import type { EventDraft, Regarding } from "../../runtime/event-recorder.ts";
import type { Logger } from "../../runtime/logger.ts";
import {
  type KubernetesObject,
  type PersistentVolumeClaim,
  type Pod,
  resources,
  type Secret,
} from "../../runtime/wire.ts";
import { createAttachment, deleteAttachment } from "./act-attachments.ts";
import { type Claims, trimClaim } from "./claims.ts";
import { asDeviceRefusal, interfaceKey } from "./device-refused.ts";
import { allDiskParts } from "./disk-parts.ts";
import type { LauncherMonitor, Question } from "./launcher-monitor.ts";
import { machineConfig } from "./machine-config.ts";
import {
  annotations,
  FIELD_MANAGER,
  identityOf,
  MANAGED_BY,
  MANAGED_BY_LABEL,
  podNameOf,
  podNamesOf,
  secretNameOf,
  VM_LABEL,
  virtualMachines,
} from "./names.ts";
import { type Refusal, readinessOf } from "./observation.ts";
import { claimsOf, type StoredVirtualMachine, type World } from "./observe.ts";
import type { Action } from "./plan.ts";
import { launcherPod, ownerReferenceTo } from "./pod.ts";
import { nameConflict, refusalOf } from "./refusal.ts";
import type { Settings } from "./settings.ts";
import { settleHandOver } from "./settle-hand-over.ts";

/** What actions are carried out with. */
export interface Hands {
  readonly client: Client;
  readonly world: World;
  readonly authority: Pick<Authority, "issueForMachine">;
  readonly monitor: LauncherMonitor;
  readonly events: { record(regarding: Regarding, draft: EventDraft): void };
  readonly logger: Logger;
  readonly settings: Settings;
  readonly nowMs: () => number;
  /** Told when a pod was made, for metrics. */
  readonly onPodCreated?: (vm: StoredVirtualMachine, pod: Pod) => void;
}

/** Thrown when the API server would not have the pod: kept in mind, and tried again later. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly refusal: Omit<Refusal, "count" | "atMs">;

  constructor(refusal: Omit<Refusal, "count" | "atMs">) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

/** Thrown when the API server would not have an existing claim as its template says. */
export class ClaimRefusedError extends Error {
  override readonly name = "ClaimRefusedError";
  readonly claimName: string;
  readonly requestBytes: number;

  constructor(claimName: string, requestBytes: number, message: string) {
    super(message);
    this.claimName = claimName;
    this.requestBytes = requestBytes;
  }
}

/** Carries one action out. Writes go into the stores as well, so that the next pass knows of them. */
export async function act(action: Action, vm: StoredVirtualMachine, hands: Hands): Promise<void> {
  switch (action.kind) {
    case "start":
      return await start(vm, action, hands);
    case "apply-claim":
      return await applyClaim(vm, action, hands);
    case "delete-pod":
      return await deletePod(vm, action, hands);
    case "ask-launcher":
      return hands.monitor.ask(questionAbout(vm, action));
    case "pause":
    case "resume":
      return await hands.monitor.set(action.kind, questionOf(vm, action, hands));
    case "resize-disk":
      return await hands.monitor.resizeDisk(questionOf(vm, action, hands), action.disk, action.sizeBytes);
    case "limit-overlay":
      return await hands.monitor.limitOverlay(questionOf(vm, action, hands), action.disk, action.bytes);
    case "create-attachment":
      return await createAttachment(vm, action, hands);
    case "delete-attachment":
      return await deleteAttachment(vm, action, hands);
    case "attach-disk":
      return await asDeviceRefusal(action.disk.name, () =>
        hands.monitor.attachDisk(questionOf(vm, action, hands), action.disk),
      );
    case "detach-disk":
      return await hands.monitor.detachDisk(questionOf(vm, action, hands), action.disk);
    case "ask-networks":
      return await askNetworks(vm, action, hands);
    case "attach-interface":
      return await asDeviceRefusal(interfaceKey(action.config.name), () =>
        hands.monitor.attachInterface(questionOf(vm, action, hands), action.config),
      );
    case "detach-interface":
      return await hands.monitor.detachInterface(questionOf(vm, action, hands), action.interfaceName);
    case "set-link":
      return await hands.monitor.setLink(questionOf(vm, action, hands), action.interfaceName, action.state);
    case "label-pod":
      return await labelPod(vm, action, hands);
    case "settle-hand-over":
      return await settleHandOver(vm, questionOf(vm, action, hands), hands);
    case "renew-certificate":
      return await renewCertificate(vm, action.podUID, hands);
    case "write-status":
      return await writeStatus(vm, action.status, action.events, hands);
  }
}

/** With the pod's readiness as it is now. */
function questionOf(
  vm: StoredVirtualMachine,
  about: { readonly podUID: string; readonly ip: string },
  { world }: Hands,
): Question {
  const pod = ownPod(vm, about.podUID, world);
  return questionAbout(vm, { ...about, readiness: pod === undefined ? "" : readinessOf(pod) });
}

function questionAbout(
  vm: StoredVirtualMachine,
  about: { readonly podUID: string; readonly ip: string; readonly readiness: string },
): Question {
  const { name, namespace, uid } = identityOf(vm);
  return { ip: about.ip, uid, podUID: about.podUID, key: `${namespace}/${name}`, readiness: about.readiness };
}

/** One of the pods that the machine can have. */
function ownPod(vm: StoredVirtualMachine, podUID: string, world: World): Pod | undefined {
  const { namespace, name } = identityOf(vm);
  const named = podNamesOf(name).map((podName) => world.pods.get(`${namespace}/${podName}`));
  return named.find((pod) => pod?.metadata?.uid === podUID);
}

/** One that is gone has no name; a precondition on its UID then finds out. */
function nameOfPod(vm: StoredVirtualMachine, podUID: string, world: World): string {
  return ownPod(vm, podUID, world)?.metadata?.name ?? podNameOf(identityOf(vm).name);
}

/** Secret, then pod, without reading in between: the Secret must be there when the kubelet mounts it. */
async function start(
  vm: StoredVirtualMachine,
  { restarts, claims }: Extract<Action, { kind: "start" }>,
  hands: Hands,
): Promise<void> {
  const { client, world, logger, settings } = hands;
  const identity = identityOf(vm);
  try {
    const certificate = await applySecret(vm, claims, hands);
    const pod = launcherPod(vm, {
      settings,
      restarts,
      certificateRenewAt: formatTime(certificate.renewAtMs),
      trustId: certificate.trustId,
      claims,
    });
    const created = await client.create<Pod>(resources.pods, pod, FIELD_MANAGER);
    world.pods.put(created);
    logger.info(
      { ...identity, pod: created.metadata?.name, podUID: created.metadata?.uid },
      "Created the launcher pod",
    );
    record(vm, hands, {
      type: "Normal",
      reason: "PodCreated",
      action: "Start",
      note: `Created pod ${pod.metadata?.name}`,
    });
    hands.onPodCreated?.(vm, created);
  } catch (error) {
    if (error instanceof ApiError && error.isAlreadyExists) {
      await settleExistingPod(vm, hands);
      return;
    }
    const refusal = refusalOf(error, vm.metadata.generation ?? 0);
    throw refusal === undefined ? error : new RefusedError(refusal);
  }
}

/** A pod of the name is there already: ours, when only the answer to its creation was lost; or somebody else's. */
async function settleExistingPod(vm: StoredVirtualMachine, { client, world }: Hands): Promise<void> {
  const { name, namespace } = identityOf(vm);
  const pod = await client.get<Pod>(resources.pods, namespace, podNameOf(name));
  if (pod.metadata?.labels?.[VM_LABEL] === name) {
    world.pods.put(pod);
    return;
  }
  const generation = vm.metadata.generation ?? 0;
  throw new RefusedError({ reason: "NameConflict", message: nameConflict(name), generation });
}

/** Server-side apply: made where there is none, else changed in what the template says. */
async function applyClaim(
  vm: StoredVirtualMachine,
  { claim, requestBytes, isNew }: Extract<Action, { kind: "apply-claim" }>,
  hands: Hands,
): Promise<void> {
  const { client, world, logger } = hands;
  const claimName = claim.metadata?.name ?? "";
  const resource = resources.persistentVolumeClaims;
  try {
    const applied = await client.apply<PersistentVolumeClaim>(resource, claim, { fieldManager: FIELD_MANAGER });
    world.claims.put(trimClaim(applied));
  } catch (error) {
    const said = error instanceof ApiError ? (error.status.message ?? error.message) : "";
    if (!isNew && error instanceof ApiError && (error.isForbidden || error.isInvalid)) {
      record(vm, hands, { type: "Warning", reason: "ClaimRefused", action: "Apply", note: said });
      throw new ClaimRefusedError(claimName, requestBytes, said);
    }
    const refusal = refusalOf(error, vm.metadata.generation ?? 0);
    if (refusal === undefined) {
      throw error;
    }
    const message = `PersistentVolumeClaim ${claimName} cannot be made: ${said}; correct spec.volumeClaimTemplates, or make room`;
    throw new RefusedError({
      ...refusal,
      message,
      reason: refusal.reason === "PodInvalid" ? "SpecInvalid" : refusal.reason,
    });
  }
  logger.info({ ...identityOf(vm), claim: claimName, requestBytes }, "Applied a claim of the machine's templates");
  if (isNew) {
    const note = `Created PersistentVolumeClaim ${claimName}`;
    record(vm, hands, { type: "Normal", reason: "ClaimCreated", action: "Apply", note });
  }
}

async function applySecret(
  vm: StoredVirtualMachine,
  claims: Claims,
  { client, authority, settings }: Hands,
): Promise<MachineCertificate> {
  const identity = identityOf(vm);
  const certificate = await authority.issueForMachine(identity.uid);
  const secret: Secret = {
    metadata: {
      name: secretNameOf(identity),
      namespace: identity.namespace,
      labels: { [MANAGED_BY_LABEL]: MANAGED_BY, [VM_LABEL]: identity.name },
      ownerReferences: [ownerReferenceTo(vm)],
    },
    type: "Opaque",
    data: {
      "machine.json": base64(`${JSON.stringify(machineConfig(vm, settings, claims), null, 2)}\n`),
      ...seedData(vm, claims),
      ...certificateData(certificate),
    },
  };
  await client.apply<Secret>(resources.secrets, secret, { fieldManager: FIELD_MANAGER });
  return certificate;
}

async function renewCertificate(vm: StoredVirtualMachine, podUID: string, hands: Hands): Promise<void> {
  const { client, world, authority, logger } = hands;
  const identity = identityOf(vm);
  const certificate = await authority.issueForMachine(identity.uid);
  const target = { namespace: identity.namespace, name: secretNameOf(identity) };
  const data: Partial<Secret> = { data: certificateData(certificate) };
  try {
    await client.mergePatch<Secret>(resources.secrets, target, data, FIELD_MANAGER);
  } catch (error) {
    if (!(error instanceof ApiError && error.isNotFound)) {
      throw error;
    }
    // Somebody deleted it. A running machine has read its configuration long ago.
    await applySecret(vm, claimsOf(world, vm), hands);
  }
  // Last: a crash before this renews once more.
  const marks: Pod = {
    metadata: {
      uid: podUID,
      annotations: {
        [annotations.certificateRenewAt]: formatTime(certificate.renewAtMs),
        [annotations.trust]: certificate.trustId,
      },
    },
  };
  const pod = { namespace: identity.namespace, name: nameOfPod(vm, podUID, world) };
  world.pods.put(await client.mergePatch<Pod>(resources.pods, pod, marks, FIELD_MANAGER));
  logger.info({ ...identity, renewAt: formatTime(certificate.renewAtMs) }, "Renewed the machine's certificate");
}

async function labelPod(
  vm: StoredVirtualMachine,
  { podUID, labels, annotations }: Extract<Action, { kind: "label-pod" }>,
  { client, world, logger }: Hands,
): Promise<void> {
  const { namespace } = identityOf(vm);
  const target = { namespace, name: nameOfPod(vm, podUID, world) };
  // A null takes a label away: RFC 7386.
  const patch = { metadata: { uid: podUID, labels: labels as Record<string, string>, annotations } };
  world.pods.put(await client.mergePatch<Pod>(resources.pods, target, patch, FIELD_MANAGER));
  logger.info({ ...identityOf(vm), pod: target.name, podUID, labels }, "Changed labels of the launcher pod");
}

/** Multus' controller sees the change, adds and removes interfaces of the pod, and tells in the pod's network-status. */
async function askNetworks(
  vm: StoredVirtualMachine,
  { podUID, networks }: Extract<Action, { kind: "ask-networks" }>,
  { client, world, logger, nowMs }: Hands,
): Promise<void> {
  const { namespace } = identityOf(vm);
  const target = { namespace, name: nameOfPod(vm, podUID, world) };
  const asked = {
    // A null takes it away: RFC 7386.
    [MULTUS_NETWORKS_ANNOTATION]: networks === null ? null : JSON.stringify(networks),
    [annotations.networksAskedAt]: formatTime(nowMs()),
  };
  const patch = { metadata: { uid: podUID, annotations: asked as Record<string, string> } };
  world.pods.put(await client.mergePatch<Pod>(resources.pods, target, patch, FIELD_MANAGER));
  const names = (networks ?? []).map((network) => `${network.namespace}/${network.name}`);
  logger.info({ ...identityOf(vm), pod: target.name, podUID, networks: names }, "Changed the networks of the pod");
}

async function deletePod(
  vm: StoredVirtualMachine,
  action: Extract<Action, { kind: "delete-pod" }>,
  hands: Hands,
): Promise<void> {
  const { client, world, logger } = hands;
  const identity = identityOf(vm);
  const name = nameOfPod(vm, action.uid, world);
  const target = { namespace: identity.namespace, name };
  try {
    const options = { uid: action.uid, ...(action.force ? { gracePeriodSeconds: 0 } : {}) };
    const answer = await client.delete<Pod>(resources.pods, target, options);
    if ("metadata" in answer && answer.metadata?.uid === action.uid) {
      world.pods.put(answer);
    }
  } catch (error) {
    // Gone, or another pod has its name by now: the watch tells.
    if (error instanceof ApiError && (error.isNotFound || error.isConflict)) {
      return;
    }
    throw error;
  }
  logger.info(
    { ...identity, pod: name, podUID: action.uid, force: action.force, why: action.note },
    "Deleted the launcher pod",
  );
  record(vm, hands, {
    type: "Normal",
    reason: "PodDeletedByOperator",
    action: "Stop",
    note: `Deleted pod ${name}: ${action.note}`,
  });
}

async function writeStatus(
  vm: StoredVirtualMachine,
  status: VirtualMachineStatus,
  events: readonly EventDraft[],
  hands: Hands,
): Promise<void> {
  const { client, world, logger } = hands;
  const { name, namespace, uid } = identityOf(vm);
  const applied = { metadata: { name, namespace, uid }, status } as KubernetesObject;
  const options = { fieldManager: FIELD_MANAGER, subresource: "status" } as const;
  world.virtualMachines.put((await client.apply(virtualMachines, applied, options)) as StoredVirtualMachine);
  const ready = status.conditions?.find((condition) => condition.type === "Ready");
  if (vm.status?.phase !== status.phase) {
    const fields = { name, namespace, uid, from: vm.status?.phase, phase: status.phase, reason: ready?.reason };
    logger.info({ ...fields, detail: ready?.message }, "The machine's phase changed");
  }
  for (const event of events) {
    record(vm, hands, event);
  }
}

function record(vm: StoredVirtualMachine, { events }: Hands, draft: EventDraft): void {
  events.record({ apiVersion: GROUP_VERSION, kind: "VirtualMachine", ...identityOf(vm) }, draft);
}

function certificateData(certificate: MachineCertificate): Record<string, string> {
  return {
    "tls.crt": base64(certificate.certificate),
    "tls.key": base64(certificate.key),
    "ca.crt": base64(certificate.trust),
  };
}

/** Inline cloud-init data, which the pod sees as files. */
function seedData(vm: StoredVirtualMachine, claims: Claims): Record<string, string> {
  const seeds = allDiskParts(vm, claims).flatMap(({ secretData }) => Object.entries(secretData));
  return Object.fromEntries(seeds.map(([key, text]) => [key, base64(text)]));
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
