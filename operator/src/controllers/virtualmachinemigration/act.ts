import { GROUP_VERSION } from "../../../../crds/src/names.ts";
import type { LauncherStatus } from "../../../../launcher/api/control.ts";
import { LauncherError, type LauncherTarget } from "../../launcher-client/launcher-client.ts";
import type { Client } from "../../runtime/client.ts";
import { formatTime } from "../../runtime/clock.ts";
import { ApiError } from "../../runtime/errors.ts";
import type { EventDraft, Regarding } from "../../runtime/event-recorder.ts";
import type { Logger } from "../../runtime/logger.ts";
import { controllerOf, type KubernetesObject, type Pod, resources } from "../../runtime/wire.ts";
import { annotations } from "../virtualmachine/names.ts";
import type { World } from "../virtualmachine/observe.ts";
import { refusalOf } from "../virtualmachine/refusal.ts";
import type { Settings } from "../virtualmachine/settings.ts";
import type { Launcher, MigrationMonitor } from "./migration-monitor.ts";
import { FIELD_MANAGER, FINALIZER, virtualMachineMigrations } from "./names.ts";
import type { Observation } from "./observation.ts";
import type { Action, Where } from "./plan.ts";
import { machineKeyOf, type StoredMigration, trimMigration } from "./stored.ts";
import { type CopiedDisk, targetPod } from "./target-pod.ts";

/** What actions are carried out with. */
export interface Hands {
  readonly client: Client;
  readonly world: World;
  readonly monitor: MigrationMonitor;
  readonly launchers: { status(target: LauncherTarget): Promise<LauncherStatus> };
  readonly events: { record(regarding: Regarding, draft: EventDraft): void };
  readonly logger: Logger;
  readonly settings: Settings;
  readonly nowMs: () => number;
}

/** The API server would not have the target's pod: kept in mind, and tried again later. */
export class TargetRefusedError extends Error {
  override readonly name = "TargetRefusedError";
}

/** Carries one action out. Writes go into the stores as well, so that the next pass knows of them. */
export async function act(action: Action, observation: Observation, hands: Hands): Promise<void> {
  const { migration } = observation;
  switch (action.kind) {
    case "remove-finalizer":
      return await removeFinalizer(migration, hands);
    case "delete-migration":
      return await deleteMigration(migration, hands);
    case "write-status":
      return await writeStatus(observation, action, hands);
    case "create-target":
      return await createTarget(observation, action.name, hands);
    case "follow":
      return hands.monitor.follow(launcherAt(action.where, observation), action.intervalMs);
    case "start":
      return await orTooLate(() => hands.monitor.start(launcherAt(action.where, observation), action.request));
    case "cancel":
      return await orTooLate(() => hands.monitor.cancel(launcherAt(action.where, observation)));
    case "tell":
      return await orTooLate(() => hands.monitor.decide(launcherAt(action.where, observation), action.winner));
    case "note-decision":
      return await markPod(observation, action, { [annotations.handOver]: action.decision }, hands);
    case "note-stay":
      return await markPod(observation, action, { [annotations.stays]: migration.metadata.uid ?? "" }, hands);
    case "take-over":
      return await takeOver(observation, action, hands);
    case "delete-pod":
      return await deletePod(migration, action, hands);
  }
}

/** The launcher is further than was known: it is asked again before anything else. */
async function orTooLate(call: () => Promise<void>): Promise<void> {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof LauncherError && error.code === "Conflict")) throw error;
  }
}

function launcherAt({ podUID, ip }: Where, { migration, source, target }: Observation): Launcher {
  const pod = [source, target].find((side) => side?.pod.metadata?.uid === podUID)?.pod;
  return { podUID, ip, uid: (pod && controllerOf(pod)?.uid) ?? "", key: machineKeyOf(migration) };
}

async function removeFinalizer({ metadata }: StoredMigration, { client, world }: Hands): Promise<void> {
  const { namespace = "", name = "", uid, resourceVersion } = metadata;
  const finalizers = (metadata.finalizers ?? []).filter((each) => each !== FINALIZER);
  const patch = {
    metadata: {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      finalizers,
    },
  };
  const target = { namespace, name };
  const answer = await client.mergePatch<StoredMigration>(virtualMachineMigrations, target, patch, FIELD_MANAGER);
  // Without its last finalizer, one that is being deleted is gone with the answer.
  if (answer.metadata.deletionTimestamp === undefined || finalizers.length > 0)
    world.migrations.put(trimMigration(answer));
}

async function deleteMigration(migration: StoredMigration, { client, logger }: Hands): Promise<void> {
  const { namespace = "", name = "", uid } = migration.metadata;
  const options = uid === undefined ? {} : { uid };
  await client.delete(virtualMachineMigrations, { namespace, name }, options).catch((error: unknown) => {
    if (!(error instanceof ApiError && (error.isNotFound || error.isConflict))) throw error;
  });
  logger.info({ namespace, name }, "Deleted a VirtualMachineMigration that ended long ago");
}

async function writeStatus(
  { migration, vm }: Observation,
  { status, events }: Extract<Action, { kind: "write-status" }>,
  { client, world, logger, ...hands }: Hands,
): Promise<void> {
  const { namespace = "", name = "", uid = "" } = migration.metadata;
  const applied = { metadata: { name, namespace, uid }, status } as KubernetesObject;
  const options = { fieldManager: FIELD_MANAGER, subresource: "status" } as const;
  const answer = (await client.apply(virtualMachineMigrations, applied, options)) as StoredMigration;
  world.migrations.put(trimMigration(answer));
  if (migration.status?.phase !== status.phase) {
    const message = status.conditions?.find(({ type }) => type === "Ready")?.message;
    const fields = { namespace, name, vm: migration.spec.virtualMachineName, from: migration.status?.phase };
    logger.info({ ...fields, phase: status.phase, detail: message }, "The migration's phase changed");
  }
  for (const event of events) {
    hands.events.record({ apiVersion: GROUP_VERSION, kind: "VirtualMachineMigration", namespace, name, uid }, event);
    const { name: vmName = "", uid: vmUID = "" } = vm?.metadata ?? {};
    if (vm !== undefined)
      hands.events.record(
        { apiVersion: GROUP_VERSION, kind: "VirtualMachine", namespace, name: vmName, uid: vmUID },
        event,
      );
  }
}

async function createTarget(observation: Observation, name: string, hands: Hands): Promise<void> {
  const { migration, vm, source } = observation;
  const { client, world, settings, logger } = hands;
  const ip = source?.pod.status?.podIP;
  if (vm === undefined || source === undefined || ip === undefined) return;
  const { cpuFeatures, disks = [] } = await hands.launchers.status({ ip, uid: vm.metadata.uid ?? "" });
  const copied = (migration.spec.targetClaims ?? []).map(({ disk, claimName }): CopiedDisk => {
    const sizeBytes = disks.find(({ name: other }) => other === disk)?.sizeBytes;
    if (sizeBytes === undefined) throw new TargetRefusedError(`The machine's launcher does not tell of disk ${disk}`);
    const mode = world.claims.get(`${migration.metadata.namespace}/${claimName}`)?.facts.mode;
    if (mode === undefined) throw new TargetRefusedError(`PersistentVolumeClaim ${claimName} does not exist`);
    return { name: disk, claimName, mode, sizeBytes };
  });
  const nodes = [...world.nodes.values()].map(({ facts }) => facts.cpu);
  const cpu = { guest: cpuFeatures, nodes };
  const pod = targetPod({ migration, vm, source: source.pod, name, settings, cpu, copied });
  try {
    const created = await client.create<Pod>(resources.pods, pod, FIELD_MANAGER);
    world.pods.put(created);
    const { namespace } = migration.metadata;
    logger.info(
      { namespace, migration: migration.metadata.name, pod: name },
      "Created the pod that a machine moves to",
    );
  } catch (error) {
    if (error instanceof ApiError && error.isAlreadyExists) {
      const existing = await client.get<Pod>(resources.pods, migration.metadata.namespace ?? "", name);
      world.pods.put(existing);
      if (existing.metadata?.annotations?.[annotations.migration] === migration.metadata.uid) return;
      throw new TargetRefusedError(`Pod ${name} exists and belongs to something else; delete it`);
    }
    const refusal = refusalOf(error, 0);
    throw refusal === undefined ? error : new TargetRefusedError(refusal.message);
  }
}

/** What makes the new pod the one that counts. The pod's UID in the patch keeps it from another one of the name. */
async function takeOver(
  observation: Observation,
  pod: Extract<Action, { kind: "take-over" }>,
  hands: Hands,
): Promise<void> {
  await markPod(observation, pod, { [annotations.tookOver]: formatTime(hands.nowMs()) }, hands);
  const { namespace, name } = observation.migration.metadata;
  hands.logger.info({ namespace, migration: name, pod: pod.podName }, "The machine is in its new pod");
}

async function markPod(
  { migration }: Observation,
  { podUID, podName }: { readonly podUID: string; readonly podName: string },
  marks: Readonly<Record<string, string>>,
  { client, world }: Hands,
): Promise<void> {
  const target = { namespace: migration.metadata.namespace ?? "", name: podName };
  const patch = { metadata: { uid: podUID, annotations: marks } };
  world.pods.put(await client.mergePatch<Pod>(resources.pods, target, patch, FIELD_MANAGER));
}

async function deletePod(
  { metadata }: StoredMigration,
  { podUID, podName, force, note }: Extract<Action, { kind: "delete-pod" }>,
  { client, world, logger }: Hands,
): Promise<void> {
  const namespace = metadata.namespace ?? "";
  try {
    const options = { uid: podUID, ...(force ? { gracePeriodSeconds: 0 } : {}) };
    const answer = await client.delete<Pod>(resources.pods, { namespace, name: podName }, options);
    if ("metadata" in answer && answer.metadata?.uid === podUID) world.pods.put(answer);
  } catch (error) {
    // Gone, or another pod has its name by now: the watch tells.
    if (error instanceof ApiError && (error.isNotFound || error.isConflict)) return;
    throw error;
  }
  logger.info({ namespace, migration: metadata.name, pod: podName, force, why: note }, "Deleted a pod of a migration");
}
