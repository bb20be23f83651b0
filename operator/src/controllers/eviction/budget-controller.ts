import type { Client } from "../../runtime/client.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Logger } from "../../runtime/logger.ts";
import type { PassFailed } from "../../runtime/pass-metrics.ts";
import { runPasses } from "../../runtime/passes.ts";
import { reflect, syncedOrAborted } from "../../runtime/reflect.ts";
import { Store } from "../../runtime/store.ts";
import { splitKey } from "../../runtime/wire.ts";
import { WorkQueue } from "../../runtime/work-queue.ts";
import type { WorkQueueMetrics } from "../../runtime/work-queue-metrics.ts";
import { MANAGED_BY, MANAGED_BY_LABEL, VM_LABEL } from "../virtualmachine/names.ts";
import type { StoredVirtualMachine } from "../virtualmachine/observe.ts";
import { type Budget, type BudgetAction, budgetNameOf, decideBudget } from "./budget.ts";
import { FIELD_MANAGER, podDisruptionBudgets } from "./names.ts";

export interface BudgetControllerOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Namespaces to serve; all when empty. */
  readonly namespaces: readonly string[];
  /** Of the VirtualMachine controller, which fills it. */
  readonly virtualMachines: Store<StoredVirtualMachine>;
  readonly queueMetrics?: WorkQueueMetrics;
  readonly onPassFailed?: PassFailed;
}

const WORKERS = 4;

/** Keeps the PodDisruptionBudgets of machines as their eviction strategies ask. */
export class BudgetController {
  readonly #options: BudgetControllerOptions;
  readonly #queue: WorkQueue;
  readonly #budgets = new Store<Budget>();

  constructor(options: BudgetControllerOptions) {
    this.#options = options;
    const { clock, queueMetrics } = options;
    this.#queue = new WorkQueue({
      name: "eviction",
      clock,
      ...(queueMetrics === undefined ? {} : { metrics: queueMetrics }),
    });
    options.virtualMachines.onChange(({ key }) => this.#queue.add(key));
    this.#budgets.onChange(({ key, previous, current }) => {
      const vmName = (current ?? previous)?.metadata?.labels?.[VM_LABEL];
      if (vmName !== undefined) this.#queue.add(`${splitKey(key).namespace}/${vmName}`);
    });
  }

  get hasSynced(): boolean {
    return this.#budgets.hasSynced;
  }

  /** Follows the cluster until `signal` is aborted; leaders and others alike. */
  async watch(signal: AbortSignal): Promise<void> {
    const trim = ({ status: _, ...budget }: Budget): Budget => ({ ...budget });
    const labelSelector = `${MANAGED_BY_LABEL}=${MANAGED_BY},${VM_LABEL}`;
    const reflection = { resource: podDisruptionBudgets, store: this.#budgets, trim, labelSelector };
    await Promise.all(reflect<Budget>(this.#options, reflection, signal));
  }

  /** Works until `signal` is aborted, and then until what was begun is done; leaders only. */
  async work(signal: AbortSignal): Promise<void> {
    await syncedOrAborted([this.#budgets, this.#options.virtualMachines], signal);
    if (signal.aborted) return;
    await runPasses(
      {
        queue: this.#queue,
        workers: WORKERS,
        reconcile: (key) => this.reconcile(key),
        over: "a PodDisruptionBudget",
        logger: this.#options.logger,
        onFailed: this.#options.onPassFailed,
      },
      signal,
    );
  }

  /** One pass over one VirtualMachine, which may be gone. */
  async reconcile(key: string): Promise<void> {
    const { namespace, name } = splitKey(key);
    const existing = this.#budgets.get(`${namespace}/${budgetNameOf(name)}`);
    for (const action of decideBudget(this.#options.virtualMachines.get(key), existing)) await this.#act(action);
  }

  async #act(action: BudgetAction): Promise<void> {
    const { client } = this.#options;
    const { namespace = "", name = "", uid = "" } = action.budget.metadata ?? {};
    switch (action.kind) {
      case "create":
        this.#budgets.put(await client.create(podDisruptionBudgets, action.budget, FIELD_MANAGER));
        return;
      case "patch": {
        const patch: Budget = { metadata: { uid }, spec: action.spec };
        this.#budgets.put(await client.mergePatch(podDisruptionBudgets, { namespace, name }, patch, FIELD_MANAGER));
        return;
      }
      case "delete":
        await client.delete(podDisruptionBudgets, { namespace, name }, { uid });
    }
  }
}
