import { LauncherError } from "./launcher-error.ts";
import { parseObject, parseObjectValue, text } from "./untrusted.ts";

/** What a launcher answered, before anything of it is believed. */
export interface Answer {
  readonly statusCode: number;
  readonly body: string;
}

/** The object of an answer that is no error; undefined where it is no object. Throws LauncherError. */
export function parseGood({ statusCode, body }: Answer): Record<string, unknown> | undefined {
  const parsed = parseObject(body);
  if (statusCode >= 200 && statusCode <= 299) return parsed;
  const error = parseObjectValue(parsed?.["error"]);
  const message = text(error?.["message"]) ?? `answered with HTTP status ${statusCode}`;
  throw new LauncherError(statusCode, text(error?.["code"]) ?? "Unknown", message);
}
