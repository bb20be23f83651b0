import { AGENT_PROTOCOL_VERSION, type AgentWant } from "../../../../launcher/api/agent.ts";
import { AgentFailure } from "./agent-failure.ts";

const MAX_WANTS = 16;
const PATH_MAX_BYTES = 4095;

/** Reads one line of the agent protocol, which may hold anything. Throws AgentFailure. */
export function parseRequest(line: string): readonly AgentWant[] {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch {
    throw new AgentFailure("BadRequest", "the request is not JSON");
  }
  if (!isObject(request)) throw new AgentFailure("BadRequest", "the request is not an object");
  if (request["version"] !== AGENT_PROTOCOL_VERSION)
    throw new AgentFailure("UnsupportedVersion", `this agent speaks version ${AGENT_PROTOCOL_VERSION} only`);
  onlyFields(request, ["version", "want"]);
  const { want } = request;
  if (!Array.isArray(want) || want.length > MAX_WANTS)
    throw new AgentFailure("BadRequest", `want must be a list of at most ${MAX_WANTS} items`);
  return want.map((item: unknown, index) => {
    try {
      return parseWant(item);
    } catch (error) {
      throw error instanceof AgentFailure ? error.at(index) : error;
    }
  });
}

function parseWant(item: unknown): AgentWant {
  if (!isObject(item)) throw new AgentFailure("BadRequest", "an item of want is not an object");
  switch (item["kind"]) {
    case "kvm":
    case "userfaultfd":
      onlyFields(item, ["kind"]);
      return { kind: item["kind"] };
    case "block": {
      onlyFields(item, ["kind", "path", "readOnly", "direct"]);
      const { path, readOnly, direct } = item;
      if (typeof path !== "string" || !path.startsWith("/") || path.includes("\0") || path.length > PATH_MAX_BYTES)
        throw new AgentFailure("BadRequest", "path must be an absolute path");
      if (typeof readOnly !== "boolean" || typeof direct !== "boolean")
        throw new AgentFailure("BadRequest", "readOnly and direct must be true or false");
      return { kind: "block", path, readOnly, direct };
    }
    default:
      throw new AgentFailure("BadRequest", "kind must be kvm, userfaultfd or block");
  }
}

/** What is not known is refused: it may be a restriction that this agent would not keep. */
function onlyFields(value: Readonly<Record<string, unknown>>, known: readonly string[]): void {
  if (Object.keys(value).some((name) => !known.includes(name)))
    throw new AgentFailure("BadRequest", `there is an unknown field; known are ${known.join(", ")}`);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
