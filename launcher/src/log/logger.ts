import { writeSync } from "node:fs";
import { errorCode } from "./error-text.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

const ranks: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

/**
 * One JSON object a line: time, level, msg, then `context` and the line's own fields.
 * `write` gets whole lines; JSON escapes control characters, so no value can forge a line.
 */
export function jsonLogger(level: LogLevel, context: LogFields, write: (line: string) => void): Logger {
  const at = (own: LogLevel) => (message: string, fields?: LogFields) => {
    if (ranks[own] < ranks[level]) return;
    const line = { time: new Date().toISOString(), level: own, msg: message, ...context, ...fields };
    write(`${JSON.stringify(line)}\n`);
  };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/**
 * Writes to standard output without the weight of process.stdout.
 * A line is lost when nobody reads: a stuck log collector must not stop the machine.
 */
export function writeToStdout(line: string): void {
  try {
    writeSync(1, line);
  } catch (error) {
    const code = errorCode(error);
    if (code !== "EAGAIN" && code !== "EPIPE") throw error;
  }
}
