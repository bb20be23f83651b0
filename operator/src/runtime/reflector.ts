import type { Client, Selection } from "./client.ts";
import { type Clock, sleep } from "./clock.ts";
import { ApiError, messageOf, TransportError } from "./errors.ts";
import type { Logger } from "./logger.ts";
import type { Store } from "./store.ts";
import type { KubernetesObject, Resource } from "./wire.ts";

export interface ReflectorOptions<T extends KubernetesObject> {
  readonly client: Client;
  readonly resource: Resource;
  readonly selection?: Selection;
  readonly store: Pick<Store<T>, "put" | "remove" | "replace">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once, when the first list has been taken in. */
  readonly onSynced?: () => void;
  /** Drops what the store need not keep. */
  readonly trim?: (object: T) => T;
  /** Random numbers in [0, 1). */
  readonly random?: () => number;
}

const PAGE_SIZE = 500;
const MIN_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;
const MIN_WATCH_SECONDS = 300;
const MAX_WATCH_SECONDS = 600;
/** A silent watch outlives the server's own end by this much, then its connection counts as dead. */
const IDLE_GRACE_MS = 30_000;

/**
 * Keeps a store equal to what the API server has: list, then watch from there, for ever.
 *
 * Each failure leads back to one of two places: to the watch, from the last resourceVersion heard of (a bookmark's
 * too), when that still holds; otherwise to the list. Both wait first, longer after each failure in a row.
 */
export class Reflector<T extends KubernetesObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #random: () => number;
  /** Where the watch goes on; undefined: list first. */
  #resourceVersion: string | undefined;
  #failures = 0;
  #synced = false;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  /** Runs until `signal` is aborted; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#resourceVersion === undefined) {
          await this.#list(signal);
        }
        await this.#watch(signal);
      } catch (error) {
        if (!signal.aborted) {
          await this.#recover(error, signal);
        }
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { client, resource, selection, store, trim } = this.#options;
    const items: T[] = [];
    let resourceVersion = "";
    let token: string | undefined;
    do {
      const page = await client.list<T>(resource, { ...selection, limit: PAGE_SIZE, continue: token, signal });
      for (const item of page.items) {
        items.push(trim === undefined ? item : trim(item));
      }
      resourceVersion = page.metadata?.resourceVersion ?? resourceVersion;
      token = page.metadata?.continue === "" ? undefined : page.metadata?.continue;
    } while (token !== undefined);
    const namespace = selection?.namespace;
    store.replace(items, resourceVersion, (object) => !namespace || object.metadata?.namespace === namespace);
    this.#resourceVersion = resourceVersion;
    this.#failures = 0;
    if (!this.#synced) {
      this.#synced = true;
      this.#options.onSynced?.();
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { client, resource, selection, clock } = this.#options;
    const timeoutSeconds = Math.round(MIN_WATCH_SECONDS + this.#random() * (MAX_WATCH_SECONDS - MIN_WATCH_SECONDS));
    const idleMs = timeoutSeconds * 1000 + IDLE_GRACE_MS;
    const idle = new AbortController();
    let timer = clock.after(idleMs, () => idle.abort());
    const onActivity = () => {
      timer[Symbol.dispose]();
      timer = clock.after(idleMs, () => idle.abort());
    };
    const startedAt = clock.monotonic();
    let events = 0;
    try {
      for await (const event of client.watch<T>(resource, {
        ...selection,
        resourceVersion: this.#resourceVersion ?? "",
        timeoutSeconds,
        onActivity,
        signal: AbortSignal.any([signal, idle.signal]),
      })) {
        events += 1;
        this.#take(event);
      }
    } finally {
      timer[Symbol.dispose]();
    }
    // A server that ends each watch at once must not be asked in a hot loop.
    if (events === 0 && clock.monotonic() - startedAt < MIN_BACKOFF_MS) {
      await this.#backOff(signal);
    }
  }

  #take(event: Awaited<ReturnType<ReturnType<Client["watch"]>["next"]>>["value"]): void {
    if (event.type === "ERROR") {
      throw new ApiError(event.object.code ?? 500, event.object, `WATCH ${this.#options.resource.plural}`);
    }
    const { store, trim } = this.#options;
    const object = event.object as T;
    if (event.type === "DELETED") {
      store.remove(object);
    } else if (event.type === "ADDED" || event.type === "MODIFIED") {
      store.put(trim === undefined ? object : trim(object));
    }
    this.#resourceVersion = object.metadata?.resourceVersion ?? this.#resourceVersion;
    this.#failures = 0;
  }

  async #recover(error: unknown, signal: AbortSignal): Promise<void> {
    const { logger, resource } = this.#options;
    const expired = error instanceof ApiError && error.isExpired;
    // A broken connection says nothing about the resourceVersion; any answer but "too many requests" does.
    if (!(error instanceof TransportError) && !(error instanceof ApiError && error.isTooManyRequests)) {
      this.#resourceVersion = undefined;
    }
    const fields = { resource: resource.plural, err: messageOf(error) };
    if (expired && this.#failures === 0) {
      logger.debug(fields, "Lists again, as the watch is too old to go on");
      this.#failures = 1;
      return;
    }
    logger.warn(fields, "Lost the API server; tries again");
    await this.#backOff(signal, error instanceof ApiError ? error.retryAfterMs : undefined);
  }

  async #backOff(signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const delayMs = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 10);
    await sleep(this.#options.clock, Math.max(atLeastMs, delayMs * (0.5 + this.#random() / 2)), signal);
  }
}
