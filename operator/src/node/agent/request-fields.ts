import { AgentFailure } from "./agent-failure.ts";

export type Fields = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What is not known is refused: it may be a restriction that this agent would not keep. */
export function onlyFields(value: Fields, known: readonly string[]): void {
  if (Object.keys(value).some((name) => !known.includes(name)))
    throw new AgentFailure("BadRequest", `there is an unknown field; known are ${known.join(", ")}`);
}
