type Json = unknown;
type JsonObject = Record<string, Json>;

function isObject(value: Json): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** RFC 7386. */
export function mergePatch(target: Json, patch: Json): Json {
  if (!isObject(patch)) {
    return patch;
  }
  const result: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) {
      delete result[key];
    } else {
      result[key] = mergePatch(result[key], value);
    }
  }
  return result;
}

/** Server-side apply with lists as single leaves: remembers what each manager applied, and takes away what it drops. */
export class AppliedFields {
  readonly #applied = new Map<string, Json>();

  remember(key: string, applied: Json): void {
    this.#applied.set(key, applied);
  }

  forget(prefix: string): void {
    for (const key of this.#applied.keys()) {
      if (key.startsWith(prefix)) {
        this.#applied.delete(key);
      }
    }
  }

  /** `existing` with `applied` laid over it, less what the manager behind `key` had applied before. */
  apply(key: string, existing: Json, applied: Json): Json {
    const before = this.#applied.get(key);
    this.#applied.set(key, applied);
    return overlay(remove(existing, before, applied), applied);
  }
}

function remove(existing: Json, before: Json, now: Json): Json {
  if (!isObject(existing) || !isObject(before)) {
    return existing;
  }
  const result: JsonObject = { ...existing };
  for (const [key, value] of Object.entries(before)) {
    const kept = isObject(now) ? now[key] : undefined;
    if (isObject(value)) {
      const left = remove(result[key], value, kept);
      result[key] = left;
      if (kept === undefined && isObject(left) && Object.keys(left).length === 0) {
        delete result[key];
      }
    } else if (kept === undefined) {
      delete result[key];
    }
  }
  return result;
}

function overlay(existing: Json, applied: Json): Json {
  if (!isObject(applied) || !isObject(existing)) {
    return applied;
  }
  const result: JsonObject = { ...existing };
  for (const [key, value] of Object.entries(applied)) {
    result[key] = overlay(result[key], value);
  }
  return result;
}
