import type { Client } from "../../runtime/client.ts";
import { type Pod, resources } from "../../runtime/wire.ts";
import { virtualMachines } from "../virtualmachine/names.ts";
import type { StoredVirtualMachine } from "../virtualmachine/observe.ts";
import { liveMigrationsOf } from "../virtualmachinemigration/live.ts";
import { type EvictionFacts, machineNameOf } from "./decide.ts";

/** A pod by its name, read anew: replicas that do not lead answer too, and a cache may be behind what was evicted. */
export function readPod(client: Client, namespace: string, name: string): Promise<Pod | undefined> {
  return client.find<Pod>(resources.pods, namespace, name);
}

/** What else an eviction of the pod is decided by; nothing is read for pods that are not Typevisor's. */
export async function observeEviction(client: Client, pod: Pod | undefined): Promise<EvictionFacts> {
  const nothing = { pod, vm: undefined, migrations: [] };
  const name = pod === undefined ? undefined : machineNameOf(pod);
  const namespace = pod?.metadata?.namespace ?? "";
  if (name === undefined) return nothing;
  const vm = await client.find<StoredVirtualMachine>(virtualMachines, namespace, name);
  if (vm === undefined || vm.spec.evictionStrategy === "None") return { ...nothing, vm };
  return { pod, vm, migrations: await liveMigrationsOf(client, namespace, name) };
}
