import type {
  MigrationProgress,
  MigrationResult,
  MigrationStatus,
  SourcePhase,
  TargetPhase,
} from "../../../launcher/api/migration.ts";
import { type Answer, parseGood } from "./answer.ts";
import { LauncherError } from "./launcher-error.ts";
import { count, parseObjectValue, text } from "./untrusted.ts";

const SOURCE_PHASES: readonly SourcePhase[] = [
  "Connecting",
  "Copying",
  "HandingOver",
  "Committed",
  "Undecided",
  "Gone",
  "Failed",
];
const TARGET_PHASES: readonly TargetPhase[] = ["Listening", "Receiving", "Prepared", "Undecided", "Running", "Failed"];

/** As with every answer, each field that is used is checked. Throws LauncherError. */
export function parseMigration(answer: Answer): MigrationStatus {
  const parsed = parseGood(answer);
  const role = parsed?.["role"];
  const message = text(parsed?.["message"]) ?? "";
  if (role === "none") return { role, phase: null, message };
  const phases: readonly (SourcePhase | TargetPhase)[] =
    role === "source" ? SOURCE_PHASES : role === "target" ? TARGET_PHASES : [];
  const phase = phases.find((known) => known === parsed?.["phase"]);
  if ((role !== "source" && role !== "target") || phase === undefined) {
    const said = answer.body.slice(0, 200);
    throw new LauncherError(answer.statusCode, "BadAnswer", `answered with something else than a migration: ${said}`);
  }
  const id = text(parsed?.["id"]);
  const progress = parseObjectValue(parsed?.["progress"]);
  const result = parseMigrationResult(parsed?.["result"]);
  return {
    role,
    phase,
    message,
    ...(id === undefined ? {} : { id }),
    ...(progress === undefined ? {} : { progress: progressOf(progress) }),
    ...(result === undefined ? {} : { result }),
  };
}

function progressOf(said: Record<string, unknown>): MigrationProgress {
  const throttle = amount(said["throttle"]);
  return {
    rounds: count(said["rounds"]),
    sentBytes: count(said["sentBytes"]),
    remainingBytes: count(said["remainingBytes"]),
    diskSentBytes: count(said["diskSentBytes"]),
    diskRemainingBytes: count(said["diskRemainingBytes"]),
    bytesPerSecond: count(said["bytesPerSecond"]),
    dirtyBytesPerSecond: count(said["dirtyBytesPerSecond"]),
    throttle: Math.min(1, throttle),
  };
}

/** Figures of a launcher; undefined where they are none. */
export function parseMigrationResult(value: unknown): MigrationResult | undefined {
  const said = parseObjectValue(value);
  const split = parseObjectValue(said?.["split"]);
  if (said === undefined || split === undefined) return undefined;
  return {
    totalMs: amount(said["totalMs"]),
    downtimeMs: amount(said["downtimeMs"]),
    split: {
      haltMs: amount(split["haltMs"]),
      lastPassMs: amount(split["lastPassMs"]),
      stateMs: amount(split["stateMs"]),
      loadMs: amount(split["loadMs"]),
      resumeMs: amount(split["resumeMs"]),
    },
    sentBytes: count(said["sentBytes"]),
    diskSentBytes: count(said["diskSentBytes"]),
    rounds: count(said["rounds"]),
  };
}

/** A year in milliseconds: nothing here takes that long. */
const AMOUNT_MAX = 366 * 24 * 3_600_000;

function amount(value: unknown): number {
  return typeof value === "number" && value >= 0 && value <= AMOUNT_MAX ? value : 0;
}
