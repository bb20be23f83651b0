import type { Client } from "./client.ts";
import { type Clock, formatMicroTime, sleep } from "./clock.ts";
import { ApiError, messageOf } from "./errors.ts";
import type { Logger } from "./logger.ts";
import { type Lease, resources } from "./wire.ts";

export interface LeaderElectorOptions {
  /** A client of its own: the load of the controllers must not hold up a renewal. */
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly namespace: string;
  readonly name: string;
  /** Unique to this process. */
  readonly identity: string;
  /** How long others wait after the last renewal that they saw. */
  readonly leaseDurationMs?: number;
  /** After this long without a renewal we have lost; less than `leaseDurationMs`. */
  readonly renewDeadlineMs?: number;
  readonly retryPeriodMs?: number;
}

const FIELD_MANAGER = "typevisor-leader-election";

/**
 * One leader among replicas, by a Lease.
 *
 * Clocks of different nodes are never compared: another holder's lease has run out when we, by our own clock, have
 * not seen it change for its duration. A leader that cannot renew stops before anyone else may start.
 */
export class LeaderElector {
  readonly #options: LeaderElectorOptions;
  readonly #leaseDurationMs: number;
  readonly #renewDeadlineMs: number;
  readonly #retryPeriodMs: number;
  /** The lease as last seen, and when it last changed by our clock. */
  #observed: { readonly lease: Lease; readonly at: number } | undefined;

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#leaseDurationMs = options.leaseDurationMs ?? 15_000;
    this.#renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
    this.#retryPeriodMs = options.retryPeriodMs ?? 2_000;
  }

  /** Resolves once we lead; to false when `signal` is aborted first. */
  async acquire(signal: AbortSignal): Promise<boolean> {
    const { clock, logger } = this.#options;
    while (!signal.aborted) {
      try {
        if (await this.#tryAcquireOrRenew()) {
          return true;
        }
      } catch (error) {
        logger.warn({ err: messageOf(error) }, "Could not read or write the lease; tries again");
      }
      await sleep(clock, this.#retryPeriodMs * (1 + Math.random() * 0.2), signal);
    }
    return false;
  }

  /** Renews until `signal` is aborted ("stopped"), or until the lease is lost. Call after `acquire`. */
  async hold(signal: AbortSignal): Promise<"stopped" | "lost"> {
    const { clock, logger } = this.#options;
    let renewedAt = clock.monotonic();
    while (!signal.aborted) {
      await sleep(clock, this.#retryPeriodMs, signal);
      if (signal.aborted) {
        break;
      }
      const startedAt = clock.monotonic();
      const outcome = await this.#renewBefore(renewedAt + this.#renewDeadlineMs);
      if (outcome === "renewed") {
        renewedAt = startedAt;
      } else if (outcome === "taken" || clock.monotonic() - renewedAt >= this.#renewDeadlineMs) {
        logger.error({ outcome }, "Lost the lease");
        return "lost";
      }
    }
    return "stopped";
  }

  /** Gives the lease up, so that the next leader need not wait; only after all work has ended. */
  async release(): Promise<void> {
    const { client, clock, logger, identity } = this.#options;
    const held = this.#observed?.lease;
    if (held?.spec?.holderIdentity !== identity) {
      return;
    }
    const now = formatMicroTime(clock.now());
    const spec = { ...held.spec, holderIdentity: "", leaseDurationSeconds: 1, renewTime: now, acquireTime: now };
    try {
      await client.update<Lease>(resources.leases, { ...held, spec }, FIELD_MANAGER);
    } catch (error) {
      logger.warn({ err: messageOf(error) }, "Could not release the lease; it runs out by itself");
    }
    this.#observed = undefined;
  }

  async #renewBefore(deadline: number): Promise<"renewed" | "taken" | "failed"> {
    const { clock, logger } = this.#options;
    const { promise: expired, resolve } = Promise.withResolvers<"failed">();
    using _timer = clock.after(deadline - clock.monotonic(), () => resolve("failed"));
    const attempt = this.#tryAcquireOrRenew().then(
      (held) => (held ? ("renewed" as const) : ("taken" as const)),
      (error: unknown) => {
        logger.warn({ err: messageOf(error) }, "Could not renew the lease; tries again");
        return "failed" as const;
      },
    );
    return await Promise.race([attempt, expired]);
  }

  /** True when the lease is ours afterwards; throws when that is not known. */
  async #tryAcquireOrRenew(): Promise<boolean> {
    const { client, clock, namespace, name, identity } = this.#options;
    const lease = await this.#read();
    const now = formatMicroTime(clock.now());
    const leaseDurationSeconds = Math.ceil(this.#leaseDurationMs / 1000);
    if (lease === undefined) {
      const spec = { holderIdentity: identity, leaseDurationSeconds, acquireTime: now, renewTime: now };
      return this.#write(
        client.create<Lease>(
          resources.leases,
          { metadata: { name, namespace }, spec: { ...spec, leaseTransitions: 0 } },
          FIELD_MANAGER,
        ),
      );
    }
    const held = lease.spec?.holderIdentity === identity;
    if (!held && !this.#hasRunOut(lease)) {
      return false;
    }
    const spec = {
      ...lease.spec,
      holderIdentity: identity,
      leaseDurationSeconds,
      renewTime: now,
      ...(held ? {} : { acquireTime: now, leaseTransitions: (lease.spec?.leaseTransitions ?? 0) + 1 }),
    };
    // The resourceVersion in `lease` makes this fail when another replica was faster.
    return this.#write(client.update<Lease>(resources.leases, { ...lease, spec }, FIELD_MANAGER));
  }

  async #read(): Promise<Lease | undefined> {
    const { client, namespace, name } = this.#options;
    try {
      const lease = await client.get<Lease>(resources.leases, namespace, name);
      this.#observe(lease);
      return lease;
    } catch (error) {
      if (error instanceof ApiError && error.isNotFound) {
        return undefined;
      }
      throw error;
    }
  }

  async #write(answer: Promise<Lease>): Promise<boolean> {
    try {
      this.#observe(await answer);
      return true;
    } catch (error) {
      if (error instanceof ApiError && (error.isConflict || error.isAlreadyExists)) {
        return false;
      }
      throw error;
    }
  }

  #observe(lease: Lease): void {
    if (this.#observed?.lease.metadata?.resourceVersion !== lease.metadata?.resourceVersion) {
      this.#observed = { lease, at: this.#options.clock.monotonic() };
    }
  }

  #hasRunOut(lease: Lease): boolean {
    if (!lease.spec?.holderIdentity) {
      return true;
    }
    const durationMs = (lease.spec.leaseDurationSeconds ?? 0) * 1000;
    return this.#observed !== undefined && this.#options.clock.monotonic() >= this.#observed.at + durationMs;
  }
}
