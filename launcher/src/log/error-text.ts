/** What was thrown, as one line of printable ASCII for a log or an error message. */
export function errorText(error: unknown): string {
  return printableAscii(property(error, "message") ?? String(error));
}

/** The `code` of a Node system error, such as "ENOENT"; undefined when there is none. */
export function errorCode(error: unknown): string | undefined {
  return property(error, "code");
}

export function printableAscii(text: string): string {
  return text.replace(/[^\x20-\x7e]/gu, "?");
}

function property(value: unknown, name: string): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const found: unknown = Reflect.get(value, name);
  return typeof found === "string" ? found : undefined;
}
