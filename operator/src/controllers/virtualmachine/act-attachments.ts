import { GROUP_VERSION } from "../../../../crds/src/names.ts";
import { ApiError } from "../../runtime/errors.ts";
import { controllerOf, type Pod, resources } from "../../runtime/wire.ts";
import type { Hands } from "./act.ts";
import { attachmentPod } from "./attachment-pod.ts";
import { asDeviceRefusal, DeviceRefusedError } from "./device-refused.ts";
import { FIELD_MANAGER, identityOf } from "./names.ts";
import { podsOf, type StoredVirtualMachine } from "./observe.ts";
import type { Action } from "./plan.ts";

/** Makes an attachment pod for the launcher that there is; another launcher by now is the next pass's business. */
export async function createAttachment(
  vm: StoredVirtualMachine,
  action: Extract<Action, { kind: "create-attachment" }>,
  { client, world, logger, settings, events }: Hands,
): Promise<void> {
  const { name, disk, claims, launcherUID } = action;
  const identity = identityOf(vm);
  const { pod: launcher } = podsOf(world, vm);
  if (launcher?.metadata?.uid !== launcherUID) return;
  const pod = attachmentPod(vm, { settings, name, disk, claims, launcher });
  try {
    const created = await asDeviceRefusal(disk.name, () => client.create<Pod>(resources.pods, pod, FIELD_MANAGER));
    world.pods.put(created);
  } catch (error) {
    if (!(error instanceof ApiError && error.isAlreadyExists)) throw error;
    const existing = await client.get<Pod>(resources.pods, identity.namespace, name);
    if (controllerOf(existing)?.uid !== identity.uid) {
      const message = `Pod ${name} exists and belongs to something else; delete it`;
      throw new DeviceRefusedError(disk.name, message, false);
    }
    // Only the answer to its creation was lost.
    world.pods.put(existing);
    return;
  }
  logger.info({ ...identity, pod: name, disk: disk.name }, "Created an attachment pod");
  events.record(
    { apiVersion: GROUP_VERSION, kind: "VirtualMachine", ...identity },
    { type: "Normal", reason: "DiskAttaching", action: "Attach", note: `Created pod ${name} for disk ${disk.name}` },
  );
}

export async function deleteAttachment(
  vm: StoredVirtualMachine,
  { name, uid, note }: Extract<Action, { kind: "delete-attachment" }>,
  { client, world, logger }: Hands,
): Promise<void> {
  const identity = identityOf(vm);
  try {
    const answer = await client.delete<Pod>(resources.pods, { namespace: identity.namespace, name }, { uid });
    if ("metadata" in answer && answer.metadata?.uid === uid) world.pods.put(answer);
  } catch (error) {
    // Gone, or another pod has its name by now: the watch tells.
    if (error instanceof ApiError && (error.isNotFound || error.isConflict)) return;
    throw error;
  }
  logger.info({ ...identity, pod: name, why: note }, "Deleted an attachment pod");
}
