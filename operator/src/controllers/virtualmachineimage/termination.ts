import {
  type ImportProgress,
  type ImportTermination,
  type ImportTrouble,
  importExitCodes,
} from "../../../../launcher/api/import.ts";
import type { Pod } from "../../runtime/wire.ts";
import { containerEnd } from "../container-end.ts";
import { IMPORT_LABEL, IMPORTER_CONTAINER } from "./names.ts";

/** How an importer's pod ended. */
export interface ImportEnd {
  readonly reason: string;
  readonly message: string;
  readonly finishedAt: string | undefined;
  readonly progress: ImportProgress | undefined;
}

export function endOf(pod: Pod): ImportEnd {
  const terminated = containerEnd(pod, IMPORTER_CONTAINER);
  const finishedAt = terminated?.finishedAt;
  const lastWord = parse(terminated?.message);
  if (lastWord !== undefined) return { ...lastWord, finishedAt };
  const why = pod.status?.message ?? pod.status?.reason ?? terminated?.reason ?? "no reason is known";
  const exit = terminated === undefined ? "" : ` (exit code ${terminated.exitCode})`;
  const help = terminated?.reason === "OOMKilled" ? "; raise importer.resources.limits.memory" : "";
  const message = `pod ${pod.metadata?.name} ended without a last word: ${why}${exit}${help}`;
  return { reason: "ImporterKilled", message, finishedAt, progress: undefined };
}

/** The importer worked on bytes from anywhere: what it says is text, and no more. */
function parse(text: string | undefined): Omit<ImportEnd, "finishedAt"> | undefined {
  try {
    const said = JSON.parse(text ?? "") as Partial<ImportTermination>;
    if (typeof said.message !== "string" || !Object.hasOwn(importExitCodes, said.reason ?? "")) return undefined;
    return { reason: said.reason ?? "", message: said.message, progress: parseProgress(said.progress) };
  } catch {
    return undefined;
  }
}

/** Undefined for what is none. */
export function parseProgress(value: unknown): ImportProgress | undefined {
  const { version, stage, doneBytes, totalBytes, bytesPerSecond, format, diskBytes, resumed, trouble } = (value ??
    {}) as Partial<ImportProgress>;
  const isCount = (number: unknown): number is number => Number.isSafeInteger(number) && Number(number) >= 0;
  const isStage = stage === "Starting" || stage === "Transferring" || stage === "Finishing";
  if (version !== 1 || !isStage || !isCount(doneBytes) || !isCount(bytesPerSecond) || !isCount(resumed))
    return undefined;
  return {
    version,
    stage,
    doneBytes,
    totalBytes: isCount(totalBytes) ? totalBytes : null,
    bytesPerSecond,
    format: typeof format === "string" ? format.slice(0, 64) : null,
    diskBytes: isCount(diskBytes) ? diskBytes : null,
    resumed,
    ...troubleIn(trouble),
  };
}

const TROUBLE_MAX_LENGTH = 1000;

function troubleIn(trouble: Partial<ImportTrouble> | undefined): Pick<ImportProgress, "trouble"> {
  const { reason, message } = Object(trouble) as Partial<ImportTrouble>;
  if (reason === undefined || !Object.hasOwn(importExitCodes, reason) || typeof message !== "string") return {};
  return { trouble: { reason, message: message.slice(0, TROUBLE_MAX_LENGTH) } };
}

/** UID of the claim that a pod imports into. */
export function importsOf(pod: Pod): string | undefined {
  return pod.metadata?.labels?.[IMPORT_LABEL];
}

/** Why a pod does not start, where Kubernetes says so. */
export function podTrouble(pod: Pod): string | undefined {
  const scheduled = pod.status?.conditions?.find((condition) => condition.type === "PodScheduled");
  if (scheduled?.reason === "Unschedulable")
    return `pod ${pod.metadata?.name} finds no node: ${scheduled.message ?? "no reason is given"}`;
  const waiting = pod.status?.containerStatuses?.find((status) => status.name === IMPORTER_CONTAINER)?.state?.waiting;
  if (waiting?.message === undefined || waiting.reason === "ContainerCreating") return undefined;
  return `pod ${pod.metadata?.name} does not start: ${waiting.reason}: ${waiting.message}`;
}
