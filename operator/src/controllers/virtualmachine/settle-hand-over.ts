import { decideHandOver, type HandOverDecision, type SourceView } from "../../../../launcher/api/migration.ts";
import type { Client } from "../../runtime/client.ts";
import type { Logger } from "../../runtime/logger.ts";
import { type Pod, resources } from "../../runtime/wire.ts";
import { liveMigrationsOf } from "../virtualmachinemigration/live.ts";
import { isOver } from "../virtualmachinemigration/stored.ts";
import type { LauncherMonitor, Question } from "./launcher-monitor.ts";
import { type Identity, identityOf, podNamesOf } from "./names.ts";
import type { StoredVirtualMachine, World } from "./observe.ts";

interface Hands {
  readonly client: Client;
  readonly world: World;
  readonly monitor: LauncherMonitor;
  readonly logger: Logger;
}

/**
 * What is left of a migration whose object and whose new pod are both gone: a launcher that has said Commit, to somebody of whom
 * nothing will be heard. There is nobody else to tell, so nothing is recorded. Of any other launcher this changes nothing.
 */
export async function settleHandOver(vm: StoredVirtualMachine, launcher: Question, hands: Hands): Promise<void> {
  const { monitor, logger } = hands;
  const identity = identityOf(vm);
  const { role, phase } = await monitor.migration(launcher);
  if (role !== "source" || phase === null) return;
  const decision: HandOverDecision | null = decideHandOver(phase as SourceView, "gone");
  if (decision === null || !(await isAlone(identity, launcher.podUID, hands))) return;
  await monitor.decideMigration(launcher, decision);
  logger.info({ ...identity, podUID: launcher.podUID, phase, decision }, "Settled a hand-over that was left behind");
}

/** Asked of the API server itself: a store may be behind. */
async function isAlone(
  { namespace, name }: Identity,
  podUID: string,
  { client, world }: Pick<Hands, "client" | "world">,
): Promise<boolean> {
  for (const podName of podNamesOf(name)) {
    const pod = await client.find<Pod>(resources.pods, namespace, podName);
    if (pod === undefined || pod.metadata?.uid === podUID) continue;
    world.pods.put(pod);
    return false;
  }
  return (await liveMigrationsOf(client, namespace, name)).every(isOver);
}
