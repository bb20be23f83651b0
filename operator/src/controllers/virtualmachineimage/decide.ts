import { formatBytes } from "../../../../crds/src/quantity.ts";
import {
  IMPORTS_MAX,
  type ImportStatus,
  type VirtualMachineImageStatus,
} from "../../../../crds/src/virtualmachineimage.ts";
import { type ConditionDraft, settleConditions } from "../../runtime/conditions.ts";
import { type ClaimPlan, decideClaim } from "./decide-claim.ts";
import type { Observation, StoredImage } from "./observation.ts";
import type { Action, Decision } from "./plan.ts";
import type { ImportSettings } from "./settings.ts";

/** What to do about one image and the claims that name it: a pure function of what was observed and the time. */
export function decide({ image, claims }: Observation, settings: ImportSettings, nowMs: number): Decision {
  const known = image?.status?.imports ?? [];
  const plans = claims.flatMap((seen) => {
    const previous = known.find((entry) => entry.claimName === seen.claim.name);
    return decideClaim({ ...seen, image, previous, settings, nowMs }) ?? [];
  });
  const claimActions = plans.flatMap((plan) => plan.actions);
  const writes = image === undefined ? [] : statusWrite(image, plans, nowMs);
  // The status comes before what destroys the evidence that it records.
  const isRemoval = ({ kind }: Action) => kind === "delete-pod" || kind === "delete-claim";
  const actions = [
    ...claimActions.filter((action) => !isRemoval(action)),
    ...writes,
    ...claimActions.filter(isRemoval),
  ];
  const wakes = plans.flatMap(({ wakeAtMs }) => wakeAtMs ?? []);
  return { actions, wakeAtMs: wakes.length === 0 ? undefined : Math.min(...wakes) };
}

function statusWrite(image: StoredImage, plans: readonly ClaimPlan[], nowMs: number): Action[] {
  if (image.metadata.deletionTimestamp !== undefined) return [];
  const before = image.status ?? {};
  const entries = plans.map(({ entry }) => entry).sort(byInterest);
  const found = plans.flatMap((plan) => plan.found ?? []).at(-1);
  const isSameSource = before.observedGeneration === image.metadata.generation;
  const known = isSameSource ? before : {};
  const format = found?.format ?? known.format;
  const sourceBytes = found?.format === undefined ? undefined : found.totalBytes;
  const sourceSize = sourceBytes === undefined || sourceBytes === null ? known.sourceSize : formatBytes(sourceBytes);
  const diskBytes = found?.diskBytes;
  const virtualSize = diskBytes === undefined || diskBytes === null ? known.virtualSize : formatBytes(diskBytes);
  const progress = progressOf(entries);
  const generation = image.metadata.generation ?? 0;
  const status: VirtualMachineImageStatus = {
    observedGeneration: generation,
    conditions: settleConditions(before.conditions, conditionsOf(entries), generation, nowMs),
    ...(format === undefined || format === null ? {} : { format }),
    ...(sourceSize === undefined ? {} : { sourceSize }),
    ...(virtualSize === undefined ? {} : { virtualSize }),
    ...(progress === undefined ? {} : { progress }),
    imports: entries.slice(0, IMPORTS_MAX),
  };
  return JSON.stringify(ordered(status)) === JSON.stringify(ordered(before)) ? [] : [{ kind: "write-status", status }];
}

/** The API server gives fields in another order back. */
function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, ordered(inner)]));
}

/** What is under way first, then the latest. */
function byInterest(a: ImportStatus, b: ImportStatus): number {
  const isDone = (entry: ImportStatus) => (entry.phase === "Completed" ? 1 : 0);
  const byTime = (b.completedAt ?? "") < (a.completedAt ?? "") ? -1 : 1;
  if (isDone(a) !== isDone(b)) return isDone(a) - isDone(b);
  return a.completedAt === b.completedAt ? (a.claimName < b.claimName ? -1 : 1) : byTime;
}

const UNDER_WAY: ReadonlySet<string> = new Set(["Waiting", "Importing", "Retrying", "Finishing"]);

/** The import that is least far, for a column. */
function progressOf(entries: readonly ImportStatus[]): string | undefined {
  const running = entries.filter((entry) => entry.phase === "Importing" || entry.phase === "Finishing");
  const percent = (entry: ImportStatus) => Number.parseInt(entry.progress ?? "0", 10);
  const [least] = running.sort((a, b) => percent(a) - percent(b));
  return least === undefined ? undefined : [least.progress, least.rate].filter((part) => part !== undefined).join(" ");
}

function conditionsOf(entries: readonly ImportStatus[]): ConditionDraft[] {
  const failed = entries.find((entry) => entry.phase === "Failed");
  const retrying = entries.find((entry) => entry.phase === "Retrying");
  const running = entries.find((entry) => UNDER_WAY.has(entry.phase ?? ""));
  const told = (entry: ImportStatus) => ({
    reason: entry.reason ?? "Importing",
    message: `PersistentVolumeClaim ${entry.claimName}: ${entry.message ?? ""}`,
  });
  const wrong = failed ?? retrying;
  const some = entries.some((entry) => entry.phase === "Completed");
  const fine = some
    ? { reason: "AsExpected", message: "No import fails" }
    : { reason: "SourceNotTried", message: "Nothing is imported from it yet" };
  return [
    { type: "Ready", status: wrong === undefined ? "True" : "False", ...(wrong === undefined ? fine : told(wrong)) },
    {
      type: "Reconciling",
      status: running === undefined ? "False" : "True",
      ...(running === undefined ? { reason: "AsExpected", message: "No import is under way" } : reconciling(running)),
    },
    {
      type: "Stalled",
      status: failed === undefined ? "False" : "True",
      ...(failed === undefined ? { reason: "AsExpected", message: "No import waits for a change" } : told(failed)),
    },
  ];
}

/** Without the figures that change all the time: those are in the entry. */
function reconciling({ claimName, reason = "Importing", phase }: ImportStatus) {
  return { reason, message: `PersistentVolumeClaim ${claimName}: ${phase}` };
}
