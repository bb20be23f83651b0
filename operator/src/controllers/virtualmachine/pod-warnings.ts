import type { Store } from "../../runtime/store.ts";
import type { Event, ObjectMeta, Pod } from "../../runtime/wire.ts";
import type { PodWarning } from "./observation.ts";

/** Warnings about pods without those that come often and say nothing that a pod's status does not say as well. */
export const WARNINGS_SELECTOR = [
  "regarding.kind=Pod",
  "type=Warning",
  ...["Unhealthy", "BackOff", "FailedScheduling"].map((reason) => `reason!=${reason}`),
].join(",");

/** What of a warning decides about a pod that waits. */
const REASONS: ReadonlySet<string> = new Set<PodWarning["reason"]>([
  "FailedMount",
  "FailedAttachVolume",
  "FailedMapVolume",
  "FailedCreatePodSandBox",
  "NetworkNotReady",
  "FailedToRetrieveImagePullSecret",
]);
const NOTE_MAX_LENGTH = 1024;
/** Says that it took too long, but not why. */
const TIMED_OUT = /timed out waiting|context deadline exceeded/;

/** A warning as it is kept on the way from the API server. */
export interface StoredWarning {
  metadata?: ObjectMeta;
  readonly pod: { readonly key: string; readonly uid: string };
  readonly reason: string;
  readonly note: string;
  readonly atMs: number;
}

/** Keeps of an event what decisions need. Kubelets still write the older form, with times of its own. */
export function trimWarning(event: Event): StoredWarning {
  const { name = "", namespace = "", resourceVersion } = event.metadata ?? {};
  const { regarding, series, deprecatedLastTimestamp, eventTime } = event;
  const time = series?.lastObservedTime ?? deprecatedLastTimestamp ?? eventTime ?? event.metadata?.creationTimestamp;
  return {
    metadata: { name, namespace, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
    pod: { key: `${regarding?.namespace}/${regarding?.name}`, uid: regarding?.uid ?? "" },
    reason: event.reason ?? "",
    note: (event.note ?? "").slice(0, NOTE_MAX_LENGTH),
    atMs: Date.parse(time ?? "") || 0,
  };
}

/**
 * What kubelets and volume controllers warned of about machines' pods that have not started: for each pod and reason
 * the last.
 */
export class PodWarnings {
  readonly #pods: Pick<Store<Pod>, "get" | "values">;
  /** Called when there is something new to be known about a pod. */
  readonly #onNews: (pod: Pod) => void;
  readonly #byPod = new Map<string, PodWarning[]>();
  #hasSynced = false;

  constructor(pods: Pick<Store<Pod>, "get" | "values">, onNews: (pod: Pod) => void) {
    this.#pods = pods;
    this.#onNews = onNews;
  }

  /** Undefined as long as nothing is known of any pod. */
  about(podUID: string): readonly PodWarning[] | undefined {
    return this.#byPod.get(podUID) ?? (this.#hasSynced ? [] : undefined);
  }

  forget(podUID: string): void {
    this.#byPod.delete(podUID);
  }

  put({ pod: { key, uid }, reason, note, atMs }: StoredWarning): void {
    const pod = this.#pods.get(key);
    if (!REASONS.has(reason) || pod === undefined || pod.metadata?.uid !== uid || !mayStillStart(pod)) {
      return;
    }
    const known = this.#byPod.get(uid) ?? [];
    const previous = known.find((warning) => warning.reason === reason);
    const saysLess = TIMED_OUT.test(note) && !TIMED_OUT.test(previous?.note ?? note);
    if (previous !== undefined && (previous.atMs > atMs || saysLess)) {
      return;
    }
    const warning = { reason: reason as PodWarning["reason"], note, atMs };
    this.#byPod.set(uid, [...known.filter((other) => other !== previous), warning]);
    if (previous?.note !== note) {
      this.#onNews(pod);
    }
  }

  /** An event that expires is no news: what was warned of holds until the pod starts or goes. */
  remove(): void {}

  replace(warnings: readonly StoredWarning[]): void {
    for (const warning of warnings) {
      this.put(warning);
    }
  }

  markSynced(): void {
    this.#hasSynced = true;
    for (const pod of this.#pods.values()) {
      if (mayStillStart(pod)) {
        this.#onNews(pod);
      }
    }
  }
}

/** Whether what keeps a pod from starting is of interest. */
export function mayStillStart(pod: Pod): boolean {
  return (pod.status?.phase ?? "Pending") === "Pending";
}
