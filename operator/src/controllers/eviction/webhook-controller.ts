import type { V1ValidatingWebhookConfiguration } from "@kubernetes/client-node";
import { parseAuthority } from "../../certificates/authority.ts";
import type { AuthorityState } from "../../certificates/authority-state.ts";
import type { Client } from "../../runtime/client.ts";
import type { Clock } from "../../runtime/clock.ts";
import { messageOf } from "../../runtime/errors.ts";
import type { EventDraft, Regarding } from "../../runtime/event-recorder.ts";
import type { Logger } from "../../runtime/logger.ts";
import type { PassFailed } from "../../runtime/pass-metrics.ts";
import { runPasses } from "../../runtime/passes.ts";
import { reflect, syncedOrAborted } from "../../runtime/reflect.ts";
import { Store } from "../../runtime/store.ts";
import { resources, type Secret, type Wire } from "../../runtime/wire.ts";
import { WorkQueue } from "../../runtime/work-queue.ts";
import type { WorkQueueMetrics } from "../../runtime/work-queue-metrics.ts";
import type { EvictionMetrics } from "./metrics.ts";
import { FIELD_MANAGER, WEBHOOK_NAME, webhookConfigurations } from "./names.ts";
import { ServingCertificate } from "./serving-certificate.ts";
import { EvictionWebhook } from "./webhook.ts";
import { acceptedPaths, isAccepted, type WebhookAccess, webhookAccess } from "./webhook-access.ts";
import { WebhookServer } from "./webhook-server.ts";

export interface WebhookSettings {
  /** Port of the server; 0 takes a free one. */
  readonly port: number;
  /** Service in the operator's namespace by which the API server finds it. */
  readonly service: string;
  /** ValidatingWebhookConfiguration that the chart made. */
  readonly configuration: string;
}

export interface WebhookControllerOptions {
  readonly client: Client;
  /** For what a request asks: its calls end before the API server's patience does. */
  readonly webhookClient: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: { record(regarding: Regarding, draft: EventDraft): void };
  readonly metrics?: EvictionMetrics;
  readonly queueMetrics?: WorkQueueMetrics;
  readonly onPassFailed?: PassFailed;
  /** The operator's own, and the Secret of its authority there. */
  readonly namespace: string;
  readonly caSecret: string;
  readonly settings: WebhookSettings;
}

type Configuration = Wire<V1ValidatingWebhookConfiguration>;

/**
 * The webhook that is asked about evictions. Every replica serves it, with a certificate of its own; the leader keeps its
 * configuration such that the API server trusts them all, before and after the authority changes.
 */
export class WebhookController implements AsyncDisposable {
  readonly #options: WebhookControllerOptions;
  readonly #secrets = new Store<Secret>();
  readonly #configurations = new Store<Configuration>();
  readonly #queue: WorkQueue;
  readonly #certificate: ServingCertificate;
  readonly #server: WebhookServer;
  #state: AuthorityState | undefined;
  /** Those of the authorities of today and, since the configuration may be behind, of those before the last change. */
  #paths: readonly (readonly string[])[] = [];
  /** Where it listens; 0 before. */
  port = 0;

  constructor(options: WebhookControllerOptions) {
    this.#options = options;
    const { clock, logger, settings, namespace, queueMetrics } = options;
    this.#queue = new WorkQueue({
      name: "webhook",
      clock,
      ...(queueMetrics === undefined ? {} : { metrics: queueMetrics }),
    });
    const { webhookClient, events, metrics } = options;
    const parts = { client: webhookClient, clock, logger, events };
    const webhook = new EvictionWebhook(metrics === undefined ? parts : { ...parts, metrics });
    this.#server = new WebhookServer({
      answer: (request) => webhook.answer(request),
      mayAsk: (path) => isAccepted(path, this.#paths.flat()),
      logger,
    });
    this.#certificate = new ServingCertificate({
      clock,
      dnsName: `${settings.service}.${namespace}.svc`,
      onIssued: (pair) => this.#server.use(pair),
      onError: (error) => logger.error({ err: messageOf(error) }, "The webhook has no certificate; tries again"),
    });
    this.#secrets.onChange(({ current }) => this.#follow(current));
    this.#configurations.onChange(() => this.#queue.add(settings.configuration));
  }

  /** True once it can answer. */
  get hasSynced(): boolean {
    return this.port !== 0 && this.#certificate.notAfterMs !== undefined;
  }

  get certificateNotAfterMs(): number | undefined {
    return this.#certificate.notAfterMs;
  }

  /** Serves until `signal` is aborted; leaders and others alike. */
  async watch(signal: AbortSignal): Promise<void> {
    const { namespace, caSecret, settings } = this.#options;
    this.port = await this.#server.listen(settings.port);
    const context = { ...this.#options, namespaces: [namespace] };
    const secret = { resource: resources.secrets, store: this.#secrets, trim: (each: Secret) => each };
    await Promise.all(reflect<Secret>(context, { ...secret, fieldSelector: `metadata.name=${caSecret}` }, signal));
  }

  /** Works until `signal` is aborted, and then until what was begun is done; leaders only. */
  async work(signal: AbortSignal): Promise<void> {
    const { settings, logger, onPassFailed } = this.#options;
    const context = { ...this.#options, namespaces: [] };
    const configuration = {
      resource: webhookConfigurations,
      store: this.#configurations,
      trim: (each: Configuration) => each,
      fieldSelector: `metadata.name=${settings.configuration}`,
    };
    const watching = reflect<Configuration>(context, configuration, signal);
    await syncedOrAborted([this.#configurations, this.#secrets], signal);
    if (!signal.aborted) {
      this.#queue.add(settings.configuration);
      await runPasses(
        {
          queue: this.#queue,
          workers: 1,
          reconcile: () => this.#keepConfiguration(),
          over: "the webhook's configuration",
          logger,
          onFailed: onPassFailed,
        },
        signal,
      );
    }
    await Promise.all(watching);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#certificate[Symbol.dispose]();
    await this.#server[Symbol.asyncDispose]();
  }

  #follow(secret: Secret | undefined): void {
    const { logger, namespace, caSecret, settings } = this.#options;
    if (secret === undefined) return;
    try {
      this.#state = parseAuthority(secret, `${namespace}/${caSecret}`);
    } catch (error) {
      // What was there before is served on; the leader tells how to mend it.
      logger.error({ err: messageOf(error) }, "The certificate authority cannot be read");
      return;
    }
    this.#paths = [acceptedPaths(this.#state), ...this.#paths].slice(0, 2);
    this.#certificate.follow(this.#state);
    this.#queue.add(settings.configuration);
  }

  /** Server-side apply of what belongs to the operator: the rest is the chart's, and neither takes the other's away. */
  async #keepConfiguration(): Promise<void> {
    const { client, logger, namespace, settings } = this.#options;
    const existing = this.#configurations.get(settings.configuration);
    if (existing === undefined || this.#state === undefined) return;
    const access = webhookAccess(this.#state);
    if (says(existing, access)) return;
    const service = { namespace, name: settings.service, path: access.path };
    const configuration: Configuration = {
      metadata: { name: settings.configuration },
      webhooks: [{ name: WEBHOOK_NAME, clientConfig: { caBundle: access.caBundle, service } }] as NonNullable<
        Configuration["webhooks"]
      >,
    };
    this.#configurations.put(await client.apply(webhookConfigurations, configuration, { fieldManager: FIELD_MANAGER }));
    logger.info({ configuration: settings.configuration }, "The API server knows how to ask about evictions");
  }
}

function says({ webhooks }: Configuration, { caBundle, path }: WebhookAccess): boolean {
  const config = webhooks?.find(({ name }) => name === WEBHOOK_NAME)?.clientConfig;
  return config?.caBundle === caBundle && config.service?.path === path;
}
