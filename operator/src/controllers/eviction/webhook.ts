import type { Client } from "../../runtime/client.ts";
import type { Clock } from "../../runtime/clock.ts";
import { ApiError, messageOf } from "../../runtime/errors.ts";
import type { EventDraft, Regarding } from "../../runtime/event-recorder.ts";
import type { Logger } from "../../runtime/logger.ts";
import type { KubernetesObject, Pod } from "../../runtime/wire.ts";
import type { StoredVirtualMachine } from "../virtualmachine/observe.ts";
import { virtualMachineMigrations } from "../virtualmachinemigration/names.ts";
import type { EvictionAnswer, EvictionRequest } from "./admission-review.ts";
import { decideEviction, type EvictionDecision, machineNameOf } from "./decide.ts";
import type { EvictionMetrics, EvictionOutcome } from "./metrics.ts";
import { FIELD_MANAGER } from "./names.ts";
import { observeEviction, readPod } from "./observe.ts";

export interface EvictionWebhookOptions {
  /** Its calls end well before the API server's patience does. */
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: { record(regarding: Regarding, draft: EventDraft): void };
  readonly metrics?: EvictionMetrics;
}

const OUTCOMES = { migrate: "migrated", wait: "moving", refuse: "refused" } as const;

/** Answers evictions: observe, decide, act, in each replica and for each request anew. */
export class EvictionWebhook {
  readonly #options: EvictionWebhookOptions;

  constructor(options: EvictionWebhookOptions) {
    this.#options = options;
  }

  /** Rejects where it cannot even be told whose the pod is: the API server then goes on as if nobody had been asked. */
  async answer(request: EvictionRequest): Promise<EvictionAnswer> {
    const { client } = this.#options;
    const pod = await readPod(client, request.namespace, request.podName);
    if (pod === undefined || machineNameOf(pod) === undefined) return this.#told("passed", { allowed: true });
    try {
      return await this.#answerOwn(request, pod);
    } catch (error) {
      const message = `it cannot be told what becomes of pod ${request.podName}: ${messageOf(error)}`;
      this.#options.logger.warn(
        { pod: request.podName, namespace: request.namespace, err: messageOf(error) },
        "An eviction could not be looked at, and was refused",
      );
      return this.#told("failed", { allowed: false, message });
    }
  }

  async #answerOwn(request: EvictionRequest, pod: Pod): Promise<EvictionAnswer> {
    const { client, clock, logger } = this.#options;
    const facts = await observeEviction(client, pod);
    const decision = decideEviction(facts, clock.now());
    if (decision.kind === "allow") {
      const { warning } = decision;
      if (warning === undefined) return this.#told("passed", { allowed: true });
      logger.info(
        { pod: request.podName, namespace: request.namespace, dryRun: request.isDryRun, why: warning },
        "An eviction stops a machine",
      );
      if (!request.isDryRun && facts.vm !== undefined) this.#record(facts.vm, "Warning", "DrainStops", warning);
      return this.#told("passed", { allowed: true, warnings: [warning] });
    }
    if (decision.kind === "migrate" && !request.isDryRun && facts.vm !== undefined)
      await this.#migrate(decision, facts.vm);
    return this.#told(OUTCOMES[decision.kind], { allowed: false, message: decision.message });
  }

  async #migrate(
    { migration, message }: Extract<EvictionDecision, { kind: "migrate" }>,
    vm: StoredVirtualMachine,
  ): Promise<void> {
    const { client, logger } = this.#options;
    try {
      await client.create(virtualMachineMigrations, migration as KubernetesObject, FIELD_MANAGER);
    } catch (error) {
      // Another replica, or an earlier request, was faster.
      if (error instanceof ApiError && error.isAlreadyExists) return;
      throw error;
    }
    logger.info(
      { migration: migration.metadata.name, namespace: migration.metadata.namespace },
      "An eviction began a migration",
    );
    this.#record(vm, "Normal", "DrainMigrates", message);
  }

  #record(
    vm: StoredVirtualMachine,
    type: "Normal" | "Warning",
    reason: "DrainMigrates" | "DrainStops",
    note: string,
  ): void {
    const { apiVersion, kind, metadata } = vm;
    const { name = "", namespace = "", uid = "" } = metadata;
    this.#options.events.record({ apiVersion, kind, namespace, name, uid }, { type, reason, action: "Evict", note });
  }

  #told(outcome: EvictionOutcome, answer: EvictionAnswer): EvictionAnswer {
    this.#options.metrics?.answered(outcome);
    return answer;
  }
}
