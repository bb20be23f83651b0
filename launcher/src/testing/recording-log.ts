import { jsonLogger, type Logger } from "../log/logger.ts";

/** A logger whose lines a test can read. */
export function recordingLog(): { readonly log: Logger; readonly lines: { readonly [field: string]: unknown }[] } {
  const lines: { readonly [field: string]: unknown }[] = [];
  return { log: jsonLogger("debug", {}, (line) => lines.push(JSON.parse(line))), lines };
}
