import type { RunStrategy } from "../../../crds/src/virtualmachine.ts";
import { type Pod, resources } from "../../../operator/src/runtime/wire.ts";
import { type Cluster, FIELD_MANAGER } from "../cluster/cluster.ts";
import { findPod, type Machine, type MachineSelection, selectMachines, virtualMachines } from "../cluster/machines.ts";
import { type Environment, say } from "../environment.ts";
import { CliError } from "../exit-codes.ts";
import { printObjects } from "../output/objects.ts";
import { awaitMachine, conditionOf, type Expectation, expectations, isCurrent } from "./await-machine.ts";
import { declaredBy } from "./field-owner.ts";

export const strategies = ["Always", "RerunOnFailure", "Once"] as const satisfies readonly RunStrategy[];

export interface PowerOptions extends MachineSelection {
  /** Write a field although somebody declares it. */
  readonly force: boolean;
  readonly wait: boolean;
  readonly timeoutMs: number;
  /** json, yaml, wide or name; a sentence for each machine when absent. */
  readonly output?: string;
}

export interface StartOptions extends PowerOptions {
  readonly strategy?: (typeof strategies)[number];
  readonly paused: boolean;
}

/** What an action has beside its options. */
export interface PowerCall {
  readonly cluster: Cluster;
  readonly environment: Environment;
}

/** Spec fields to write; a machine that has them already is left alone. */
type Wish = Partial<Pick<Machine["spec"], "runStrategy" | "paused">>;

interface Deed {
  readonly wish: Wish;
  /** What to say once it is written. */
  readonly done: string;
  /** What to say where nothing was left to do. */
  readonly already: string;
  readonly expectation: Expectation;
}

/** `start`: the machine's run strategy becomes one that runs it. */
export async function start(call: PowerCall, options: StartOptions): Promise<void> {
  await forEachMachine(call, options, async (machine) => {
    const { runStrategy } = machine.spec;
    const strategy = options.strategy ?? (runStrategy === "Halted" ? "Always" : runStrategy);
    const expectation = options.paused ? expectations.paused : expectations.running;
    const wish = { runStrategy: strategy, ...(options.paused ? { paused: true } : {}) };
    if (runStrategy !== "Halted" && hasEnded(machine)) {
      // What has ended is started again by a way through Halted alone.
      await write(call, machine, { runStrategy: "Halted" }, options.force);
      await awaitMachine(call.cluster, nameOf(machine), expectations.off, {
        ...options,
        signal: call.environment.signal,
      });
    }
    return carryOut(call, machine, options, { wish, done: "started", already: "is started already", expectation });
  });
}

/** `stop`: the run strategy becomes Halted, and the guest is asked to power off. */
export async function stop(call: PowerCall, options: PowerOptions): Promise<void> {
  await forEachMachine(call, options, async (machine) => {
    const deed = { done: "stopped", already: "is stopped already", expectation: expectations.off } as const;
    const result = await carryOut(call, machine, options, { wish: { runStrategy: "Halted" }, ...deed });
    const { runStrategy } = machine.spec;
    if (runStrategy !== "Halted" && runStrategy !== "Always") {
      const again = `kubectl vm start ${nameOf(machine)} --strategy ${runStrategy}`;
      say(call.environment, `${nameOf(machine)} had runStrategy ${runStrategy}; to start it with that again: ${again}`);
    }
    return result;
  });
}

/** `pause`: the guest's processors stop, its memory stays. */
export async function pause(call: PowerCall, options: PowerOptions): Promise<void> {
  await forEachMachine(call, options, (machine) => {
    const deed = { done: "paused", already: "is paused already", expectation: expectations.paused } as const;
    return carryOut(call, machine, options, { wish: { paused: true }, ...deed });
  });
}

/** `resume`: the guest goes on. */
export async function resume(call: PowerCall, options: PowerOptions): Promise<void> {
  await forEachMachine(call, options, (machine) => {
    const deed = { done: "resumed", already: "is not paused", expectation: expectations.running } as const;
    return carryOut(call, machine, options, { wish: { paused: false }, ...deed });
  });
}

/** `restart`: the pod is deleted, gracefully, and the operator makes the next. No spec is written. */
export async function restart(call: PowerCall, options: PowerOptions): Promise<void> {
  await forEachMachine(call, options, async (machine) => {
    const name = nameOf(machine);
    if (machine.spec.runStrategy === "Halted") {
      throw new CliError(`${name} is off (runStrategy Halted); kubectl vm start ${name} starts it`);
    }
    if (machine.spec.runStrategy === "Once") {
      throw new CliError(
        `${name} would stay off: runStrategy Once never starts it again. Use kubectl vm stop ${name}, then kubectl vm start ${name} --strategy Once`,
      );
    }
    const pod = await findPod(call.cluster, machine);
    if (pod === undefined) {
      throw new CliError(`${name} has no pod to restart now; it is ${machine.status?.phase ?? "Pending"}`);
    }
    const uid = pod.metadata?.uid ?? "";
    await call.cluster.client.delete<Pod>(resources.pods, targetOf(pod), { uid });
    const expectation = {
      what: "running again",
      isMet: (now: Machine) => now.status?.podUID !== uid && expectations.running.isMet(now),
    };
    return finish(call, machine, options, { done: "restarted", expectation });
  });
}

async function forEachMachine(
  call: PowerCall,
  options: PowerOptions,
  act: (machine: Machine) => Promise<Machine>,
): Promise<void> {
  const machines = await selectMachines(call.cluster, options);
  const results = await Promise.allSettled(machines.map((machine) => act(machine)));
  const objects = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  if (options.output !== undefined) printObjects(call.environment, objects, options.output);
  const failures = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  const { explain } = await import("../failure.ts");
  for (const failure of failures.slice(1)) say(call.environment, `error: ${explain(failure).message}`);
  if (failures.length > 0) throw failures[0];
}

async function carryOut(call: PowerCall, machine: Machine, options: PowerOptions, deed: Deed): Promise<Machine> {
  const written = await write(call, machine, deed.wish, options.force);
  const done = written === undefined ? deed.already : deed.done;
  return finish(call, written ?? machine, options, { done, expectation: deed.expectation });
}

async function finish(
  { cluster, environment }: PowerCall,
  machine: Machine,
  options: PowerOptions,
  { done, expectation }: { readonly done: string; readonly expectation: Expectation },
): Promise<Machine> {
  if (options.output === undefined) {
    environment.stdout.write(`virtualmachine.typevisor.io/${nameOf(machine)} ${done}\n`);
  }
  if (!options.wait) return machine;
  return awaitMachine(cluster, nameOf(machine), expectation, { ...options, signal: environment.signal });
}

/** Patches what differs, as a user would with `kubectl patch`; undefined where nothing did. */
async function write(
  { cluster }: PowerCall,
  machine: Machine,
  wish: Wish,
  force: boolean,
): Promise<Machine | undefined> {
  const current = await cluster.client.get<Machine>(virtualMachines, machine.metadata.namespace ?? "", nameOf(machine));
  const fields = (Object.keys(wish) as (keyof Wish)[]).filter((field) => current.spec[field] !== wish[field]);
  if (fields.length === 0) return undefined;
  for (const field of force ? [] : fields) refuseDeclared(current, field, wish);
  const patch = { metadata: { uid: machine.metadata.uid ?? "" }, spec: wish };
  return cluster.client.mergePatch<Machine>(virtualMachines, targetOf(machine), patch, FIELD_MANAGER);
}

function refuseDeclared(machine: Machine, field: keyof Wish, wish: Wish): void {
  const manager = declaredBy(machine, field);
  if (manager === undefined) return;
  throw new CliError(
    `spec.${field} of ${nameOf(machine)} is declared by ${manager}, which would set it back: set it to ${JSON.stringify(wish[field])} where ${manager} reads it, leave the field out there so that it is free, or use --force until ${manager} applies again`,
  );
}

/** Ended, and its strategy does not start it again. */
function hasEnded(machine: Machine): boolean {
  if (!isCurrent(machine)) return false;
  const ready = conditionOf(machine, "Ready")?.reason;
  const over = conditionOf(machine, "Stalled")?.status === "True" && machine.status?.lastTermination !== undefined;
  return ready === "Completed" || (over && conditionOf(machine, "Running")?.status === "False");
}

function nameOf(machine: Machine): string {
  return machine.metadata.name ?? "";
}

function targetOf({ metadata }: { readonly metadata?: { readonly namespace?: string; readonly name?: string } }) {
  return { namespace: metadata?.namespace ?? "", name: metadata?.name ?? "" };
}
