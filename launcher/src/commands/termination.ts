import { readFileSync, writeFileSync } from "node:fs";
import type { TerminationMessage, TerminationReason } from "../../api/control.ts";
import type { MigrationResult } from "../../api/migration.ts";

/** The kubelet reads no more than this of a container. */
const FILE_MAX_BYTES = 4096;
export const DEFAULT_TERMINATION_PATH = "/dev/termination-log";

/** How the launcher ends. */
export interface Termination {
  readonly reason: TerminationReason;
  readonly message: string;
  /** Of a machine that has migrated away. */
  readonly migration?: MigrationResult;
}

/**
 * Writes the last word in place: in a pod the file is a mount of its own, and cannot be renamed over.
 * Throws what the file system says.
 */
export function writeTermination(path: string, { reason, message, migration }: Termination): void {
  writeLastWord(path, message, (words) => {
    const value: TerminationMessage = { version: 1, reason, message: words, ...(migration && { migration }) };
    return JSON.stringify(value);
  });
}

/** Writes what `text` makes of `message`, or of as much of it as there is room for. */
export function writeLastWord(path: string, message: string, text: (words: string) => string): void {
  let words = message;
  while (Buffer.byteLength(text(words)) > FILE_MAX_BYTES) words = `${words.slice(0, (words.length * 3) / 4)}...`;
  writeFileSync(path, text(words));
}

/**
 * Where a configuration that is wrong wants its last word; else where a pod has it.
 * Undefined when there is neither.
 */
export function terminationPathOfBrokenConfig(configPath: string): string | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(configPath, "utf8"));
    const path: unknown = Object(value).terminationMessagePath;
    if (typeof path === "string" && path.startsWith("/") && !path.includes("\0")) return path;
  } catch {
    // What is wrong with it is said elsewhere.
  }
  return isWritable(DEFAULT_TERMINATION_PATH) ? DEFAULT_TERMINATION_PATH : undefined;
}

export function isWritable(path: string): boolean {
  try {
    writeFileSync(path, "", { flag: "r+" });
    return true;
  } catch {
    return false;
  }
}
