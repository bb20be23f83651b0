import { randomBytes } from "node:crypto";
import type { Client } from "./client.ts";
import { type Clock, formatMicroTime } from "./clock.ts";
import { ApiError, messageOf } from "./errors.ts";
import type { Logger } from "./logger.ts";
import { RateLimiter } from "./rate-limit.ts";
import { type Event, resources } from "./wire.ts";

/** The object that an event is about. */
export interface Regarding {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** An event before it is counted and written. */
export interface EventDraft {
  readonly type: "Normal" | "Warning";
  /** PascalCase, the same as the condition's. */
  readonly reason: string;
  /** What was done or tried, PascalCase. */
  readonly action: string;
  readonly note: string;
}

export interface EventRecorderOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  /** e.g. "typevisor.io/operator". */
  readonly reportingController: string;
  /** e.g. the pod's name. */
  readonly reportingInstance: string;
}

interface Recent {
  readonly namespace: string;
  readonly name: string;
  readonly limiter: RateLimiter;
  count: number;
  lastAt: number;
}

const FIELD_MANAGER = "typevisor-events";
/** An event that repeats within this time becomes a series (client-go uses the same). */
const SERIES_WINDOW_MS = 6 * 60_000;
/** Repeats are counted always, but written at most this often once the burst is used up. */
const SERIES_WRITES_PER_SECOND = 1 / 300;
const SERIES_WRITES_BURST = 25;
/** New events of one object: a burst, then one in five minutes (client-go's spam filter). */
const OBJECT_BURST = 25;
const OBJECT_PER_SECOND = 1 / 300;
const NOTE_MAX_LENGTH = 1024;
const REMEMBERED_MAX = 4096;
const QUEUE_MAX = 1000;

/** Writes events.k8s.io/v1 Events in the background; repeats become one event with a series. Never throws. */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #recent = new Map<string, Recent>();
  readonly #objects = new Map<string, RateLimiter>();
  #pending = 0;
  /** Since the queue was last empty; told when it is again, not for each. */
  #dropped = 0;
  #tail: Promise<void> = Promise.resolve();

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  record(regarding: Regarding, draft: EventDraft): void {
    const { clock, logger } = this.#options;
    const key = [regarding.uid, draft.type, draft.reason, draft.action, draft.note].join("\u0000");
    const recent = this.#recent.get(key);
    if (recent !== undefined && clock.monotonic() - recent.lastAt < SERIES_WINDOW_MS) {
      recent.count += 1;
      recent.lastAt = clock.monotonic();
      if (recent.limiter.tryTake()) {
        this.#enqueue(() => this.#writeSeries(recent));
      }
      return;
    }
    if (!this.#objectLimiter(regarding.uid).tryTake()) {
      logger.debug({ uid: regarding.uid, reason: draft.reason }, "Drops an event: too many about one object");
      return;
    }
    const namespace = regarding.namespace === "" ? "default" : regarding.namespace;
    const name = `${regarding.name.slice(0, 200)}.${randomBytes(8).toString("hex")}`;
    const limiter = new RateLimiter(clock, SERIES_WRITES_PER_SECOND, SERIES_WRITES_BURST);
    remember(this.#recent, key, { namespace, name, limiter, count: 1, lastAt: clock.monotonic() });
    this.#enqueue(() => this.#create(namespace, name, regarding, draft));
  }

  /** Resolves once all that was recorded is written or given up. */
  flush(): Promise<void> {
    return this.#tail;
  }

  async #create(namespace: string, name: string, regarding: Regarding, draft: EventDraft): Promise<void> {
    const { client, clock, reportingController, reportingInstance } = this.#options;
    const event: Event = {
      metadata: { name, namespace },
      eventTime: formatMicroTime(clock.now()),
      reportingController,
      reportingInstance: reportingInstance.slice(0, 128),
      type: draft.type,
      reason: draft.reason,
      action: draft.action,
      note: draft.note.slice(0, NOTE_MAX_LENGTH),
      regarding,
    };
    await client.create(resources.events, event, FIELD_MANAGER);
  }

  async #writeSeries(recent: Recent): Promise<void> {
    const { client, clock } = this.#options;
    const series = { count: recent.count, lastObservedTime: formatMicroTime(clock.now()) };
    await client.mergePatch<Event>(resources.events, recent, { series } as Partial<Event>, FIELD_MANAGER);
  }

  #enqueue(write: () => Promise<void>): void {
    const { logger } = this.#options;
    if (this.#pending >= QUEUE_MAX) {
      this.#dropped += 1;
      return;
    }
    this.#pending += 1;
    this.#tail = this.#tail.then(async () => {
      try {
        await write();
      } catch (error) {
        // A namespace that is going away takes no new events; nothing to be done about that.
        const level = error instanceof ApiError && (error.isForbidden || error.isNotFound) ? "debug" : "warn";
        logger[level]({ err: messageOf(error) }, "Could not write an event");
      } finally {
        this.#pending -= 1;
        this.#tellOfDropped();
      }
    });
  }

  #tellOfDropped(): void {
    if (this.#pending === 0 && this.#dropped > 0) {
      this.#options.logger.warn({ dropped: this.#dropped }, "Dropped events: too many waited to be written");
      this.#dropped = 0;
    }
  }

  #objectLimiter(uid: string): RateLimiter {
    const limiter = this.#objects.get(uid) ?? new RateLimiter(this.#options.clock, OBJECT_PER_SECOND, OBJECT_BURST);
    remember(this.#objects, uid, limiter);
    return limiter;
  }
}

/** Keeps the entries used last, up to a limit. */
function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > REMEMBERED_MAX) {
    for (const oldest of map.keys()) {
      map.delete(oldest);
      return;
    }
  }
}
