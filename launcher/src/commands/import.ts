import { IMPORT_VERSION, type ImportConfig, type ImportReason, importExitCodes } from "../../api/import.ts";
import { AgentRefused, AgentUnavailable, askAgent } from "../agent-client/agent-client.ts";
import { ConfigInvalid } from "../config/field.ts";
import { parseImportConfig } from "../config/import-config.ts";
import { ImportError } from "../import/import-error.ts";
import type { OpenBlockDevice } from "../import/open-target.ts";
import { ProgressMeter } from "../import/progress.ts";
import { listenForProgress } from "../import/progress-listener.ts";
import { runImport } from "../import/run-import.ts";
import { errorCode, errorText } from "../log/error-text.ts";
import { jsonLogger, type Logger, writeToStdout } from "../log/logger.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { launcherVersion } from "../version.ts";
import { DEFAULT_TERMINATION_PATH, isWritable, writeLastWord } from "./termination.ts";

const AGENT_DEADLINE_MS = 60_000;

interface End {
  readonly reason: ImportReason;
  readonly message: string;
}

/** `launcher import`: one import from its start to its end. Ends the process with the reason's exit code. */
export async function importDisk(configText: string): Promise<never> {
  const progress = new ProgressMeter();
  let config: ImportConfig;
  try {
    config = parseImportConfig(configText);
  } catch (error) {
    const log = jsonLogger("info", {}, writeToStdout);
    const path = isWritable(DEFAULT_TERMINATION_PATH) ? DEFAULT_TERMINATION_PATH : undefined;
    return end(endOf(error, new AbortController().signal), { progress, log, path });
  }
  const log = jsonLogger(config.log.level, {}, writeToStdout);
  log.info("import starts", { reason: "ProcessStarted", version: launcherVersion, source: config.source.kind });
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort());
  const outcome = await attempt(config, { progress, log, signal: stop.signal });
  return end(outcome, { progress, log, path: config.terminationMessagePath });
}

async function attempt(
  config: ImportConfig,
  parts: { readonly progress: ProgressMeter; readonly log: Logger; readonly signal: AbortSignal },
): Promise<End> {
  const { progress, log, signal } = parts;
  try {
    if (config.telemetry !== undefined) await listenForProgress(progress, config.telemetry);
    const aborted = new Promise<never>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason), { once: true }),
    );
    // Whatever hangs, an end that is asked for comes at once: what is half written is nobody's.
    await Promise.race([runImport(config, { ...parts, openDevice: deviceOpener(config, parts) }), aborted]);
    const { diskBytes, doneBytes, format } = progress.snapshot();
    return { reason: "Completed", message: `a disk of ${diskBytes} bytes, from ${doneBytes} bytes (${format})` };
  } catch (error) {
    const found = endOf(error, signal);
    if (found.reason === "ImporterError") {
      const stack: unknown = Object(error).stack;
      log.error("import failed", { error: errorText(error), ...(typeof stack === "string" ? { stack } : {}) });
    }
    return found;
  }
}

function deviceOpener(config: ImportConfig, { log, signal }: { log: Logger; signal: AbortSignal }): OpenBlockDevice {
  const { agentSocketPath: socketPath } = config;
  return async (path, { readOnly }) => {
    if (socketPath === undefined) return openDevice(path, readOnly);
    const options = { socketPath, deadlineMs: AGENT_DEADLINE_MS, log, signal };
    const [granted] = await askAgent([{ kind: "block", path, readOnly, direct: false, exclusive: true }], options);
    const device = granted?.fds[0];
    if (device === undefined) throw new TypeError("the node agent's client answers with as many as were asked");
    return device;
  };
}

/** Claims it, as the node agent does: nobody else on this node writes to it meanwhile. */
function openDevice(path: string, readOnly: boolean): OwnedFd {
  try {
    return openFile(path, { write: !readOnly, exclusive: true });
  } catch (cause) {
    if (errorCode(cause) !== "EBUSY") throw cause;
    const reason = readOnly ? "SourceInUse" : "TargetFailed";
    throw new ImportError(reason, `${path} is in use by another one on this node; stop that one first`, { cause });
  }
}

function endOf(error: unknown, signal: AbortSignal): End {
  if (signal.aborted) return { reason: "Stopped", message: "asked to stop before all was written" };
  if (error instanceof ImportError) return { reason: error.reason, message: error.message };
  const message = errorText(error);
  if (error instanceof ConfigInvalid)
    return { reason: "ConfigInvalid", message: message.replace(/^machine\.json/, "the import's configuration") };
  if (error instanceof AgentRefused && error.code === "DeviceBusy") return { reason: "SourceInUse", message };
  if (error instanceof AgentUnavailable || error instanceof AgentRefused)
    return { reason: "AgentUnavailable", message };
  return { reason: "ImporterError", message: `a defect of the importer: ${message}; its log has the stack` };
}

function end(
  { reason, message }: End,
  to: { readonly progress: ProgressMeter; readonly log: Logger; readonly path: string | undefined },
): never {
  const { log, path } = to;
  const snapshot = to.progress.snapshot();
  const fields = { reason, message, exitCode: importExitCodes[reason], bytesPerSecond: snapshot.bytesPerSecond };
  if (reason === "Completed") log.info("import ends", fields);
  else log.error("import ends", fields);
  try {
    const text = (words: string) =>
      JSON.stringify({ version: IMPORT_VERSION, reason, message: words, progress: snapshot });
    if (path !== undefined) writeLastWord(path, message, text);
  } catch (error) {
    log.warn("termination message cannot be written", { error: errorText(error) });
  }
  process.exit(importExitCodes[reason]);
}
