import { virtualMachineMigrations } from "../../../operator/src/controllers/virtualmachinemigration/names.ts";
import { listAll, type Machine, orUndefined, virtualMachines } from "../cluster/machines.ts";
import { say } from "../environment.ts";
import { CliError, exitCodes } from "../exit-codes.ts";
import { conditionOf } from "./await-machine.ts";
import { type Call, createMigration, type MigrateOptions, type Migration, untilMoved } from "./migrate.ts";

export interface OutdatedOptions extends Omit<MigrateOptions, "priority" | "wait"> {
  readonly allNamespaces: boolean;
  /** How many machines it moves at the same time; the cluster has limits of its own. */
  readonly parallel: number;
}

/**
 * `migrate --outdated`: machines that run in another launcher than is installed, a few at a time, each waited for. Whoever drains a
 * node goes first. Those that have changed specs too are left out: they need a restart, which brings both.
 */
export async function migrateOutdated(call: Call, options: OutdatedOptions): Promise<void> {
  const { cluster, environment } = call;
  if (options.names.length > 0)
    throw new CliError("--outdated finds the machines itself; leave out the names", exitCodes.usage);
  if (options.targetClaims.length > 0)
    throw new CliError("--target-claim goes with the name of one machine, and not with --outdated", exitCodes.usage);
  const where = options.allNamespaces ? "in the cluster" : `in namespace ${cluster.namespace}`;
  const machines = (await listMachines(call, options)).filter(isOutdated);
  if (machines.length === 0) {
    environment.stdout.write(`no machine ${where} runs in an outdated launcher\n`);
    return;
  }
  const { explain } = await import("../failure.ts");
  const failures: unknown[] = [];
  let next = 0;
  const moveSome = async () => {
    for (let machine = machines[next++]; machine !== undefined; machine = machines[next++]) {
      if (environment.signal.aborted) return;
      try {
        environment.stdout.write(`${nameOf(machine)} ${await moveOne(call, machine, options)}\n`);
      } catch (error) {
        environment.signal.throwIfAborted();
        failures.push(error);
        say(environment, `error: ${nameOf(machine)}: ${explain(error).message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.parallel, machines.length) }, moveSome));
  environment.signal.throwIfAborted();
  if (failures.length > 0)
    throw new CliError(`${failures.length} of ${machines.length} machines ${where} have not moved; the others have`);
}

function listMachines({ cluster }: Call, { allNamespaces, selector }: OutdatedOptions): Promise<Machine[]> {
  return listAll<Machine>(cluster, virtualMachines, {
    ...(allNamespaces ? {} : { namespace: cluster.namespace }),
    ...(selector === undefined ? {} : { labelSelector: selector }),
  });
}

function isOutdated(machine: Machine): boolean {
  const condition = conditionOf(machine, "RestartRequired");
  return condition?.status === "True" && condition.reason === "LauncherOutdated";
}

/** What came of it, in a word or two: it may have moved, stopped or gone since it was found. */
async function moveOne(call: Call, found: Machine, options: OutdatedOptions): Promise<string> {
  const { name = "", namespace = "" } = found.metadata;
  const { client } = call.cluster;
  const machine = await orUndefined(client.get<Machine>(virtualMachines, namespace, name));
  if (machine === undefined || machine.metadata.uid !== found.metadata.uid) return "is gone";
  if (!isOutdated(machine)) return "is in no outdated launcher any more";
  const underWay = machine.status?.migration?.name;
  const migration =
    (underWay && (await orUndefined(client.get<Migration>(virtualMachineMigrations, namespace, underWay)))) ||
    (await createMigration(call, machine, { ...options, priority: "Maintenance", wait: true }));
  return `moved to node ${await untilMoved(call, migration, options.timeoutMs)}`;
}

function nameOf({ metadata }: Machine): string {
  return `${metadata.namespace}/${metadata.name}`;
}
