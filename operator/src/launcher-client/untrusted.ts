/** Values of an answer that nobody vouches for. */
export function parseObject(body: string): Record<string, unknown> | undefined {
  try {
    return parseObjectValue(JSON.parse(body));
  } catch {
    return undefined;
  }
}

export function parseObjectValue(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
}

const TEXT_MAX_LENGTH = 1024;

export function text(value: unknown): string | undefined {
  return typeof value === "string" ? value.slice(0, TEXT_MAX_LENGTH) : undefined;
}

export function count(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : 0;
}
